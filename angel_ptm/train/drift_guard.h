// Detects that a run with stale updates drifts and must fall back to the synchronous update.
#ifndef ANGEL_PTM_TRAIN_DRIFT_GUARD_H_
#define ANGEL_PTM_TRAIN_DRIFT_GUARD_H_

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace angel_ptm {

// What a guard remembers of one number, as checkpoints store it.
struct DriftMemory {
  std::vector<double> last;                                // the newest values, oldest first
  double least = std::numeric_limits<double>::infinity();  // least mean so far

  bool operator==(const DriftMemory&) const = default;
};

// Compares the mean of the last kWindow steps with the least such mean so far. Ranks that see equal numbers decide
// alike.
class DriftGuard {
 public:
  static constexpr int kWindow = 8;

  // A band is the allowed ratio to the least mean, above 1; 0 disables the check.
  DriftGuard(double loss_band, double gradient_norm_band)
      : loss_{"loss", "loss_band", loss_band}, norm_{"gradient norm", "gradient_norm_band", gradient_norm_band} {}

  // Adds the numbers of one more step, which must be finite. Returns an empty text, or a clause that says what left its
  // band.
  std::string Add(double loss, double gradient_norm);

  // Continues from what another guard has seen. Each memory has at most kWindow values.
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
