// Whether a run with stale updates drifts: what makes it fall back to the synchronous update.
#ifndef ANGEL_PTM_TRAIN_DRIFT_GUARD_H_
#define ANGEL_PTM_TRAIN_DRIFT_GUARD_H_

#include <array>
#include <cstdint>
#include <limits>
#include <string>

namespace angel_ptm {

// Compares means of kWindow steps with the least such mean so far. Equal on all ranks that see equal numbers.
class DriftGuard {
 public:
  static constexpr int kWindow = 8;

  // Bands: ratios above 1; 0: none.
  DriftGuard(double loss_band, double gradient_norm_band)
      : loss_{"loss", "loss_band", loss_band}, norm_{"gradient norm", "gradient_norm_band", gradient_norm_band} {}

  // Of one more step, finite numbers. Empty, or a sentence's part: what left its band.
  std::string Add(double loss, double gradient_norm);

 private:
  struct Watched {
    const char *name, *field;
    double band = 0;
    std::array<double, kWindow> last = {};
    int64_t count = 0;
    double least = std::numeric_limits<double>::infinity();

    std::string Add(double value);
  };
  Watched loss_, norm_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DRIFT_GUARD_H_
