// Whether a run with stale updates drifts: what makes it fall back to the synchronous update.
#ifndef ANGEL_PTM_TRAIN_DRIFT_GUARD_H_
#define ANGEL_PTM_TRAIN_DRIFT_GUARD_H_

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace angel_ptm {

// What a guard has seen of one number, for a checkpoint.
struct DriftMemory {
  std::vector<double> last;                                // the newest ones, oldest first
  double least = std::numeric_limits<double>::infinity();  // mean so far

  bool operator==(const DriftMemory&) const = default;
};

// Compares means of kWindow steps with the least such mean so far. Equal on all ranks that see equal numbers.
class DriftGuard {
 public:
  static constexpr int kWindow = 8;

  // Bands: ratios above 1; 0: none.
  DriftGuard(double loss_band, double gradient_norm_band)
      : loss_{"loss", "loss_band", loss_band}, norm_{"gradient norm", "gradient_norm_band", gradient_norm_band} {}

  // Of one more step, finite numbers. Empty, or a sentence's part: what left its band.
  std::string Add(double loss, double gradient_norm);

  // Goes on from what another has seen, of no more than kWindow numbers each.
  void Remember(const DriftMemory& losses, const DriftMemory& gradient_norms) {
    loss_.Remember(losses);
    norm_.Remember(gradient_norms);
  }
  DriftMemory losses() const { return loss_.memory(); }
  DriftMemory gradient_norms() const { return norm_.memory(); }

 private:
  struct Watched {
    const char *name, *field;
    double band = 0;
    std::array<double, kWindow> last = {};
    int64_t count = 0;
    double least = std::numeric_limits<double>::infinity();

    std::string Add(double value);
    void Remember(const DriftMemory& memory);
    DriftMemory memory() const;
  };
  Watched loss_, norm_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DRIFT_GUARD_H_
