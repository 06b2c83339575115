// Checks of a configuration's values; every wrong value gives one line.
#ifndef ANGEL_PTM_CONFIG_CHECKS_H_
#define ANGEL_PTM_CONFIG_CHECKS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// Widths are whole cache lines of fp32, so that rows of matrices and shards of vectors start aligned.
inline constexpr int64_t kWidthMultiple = 16;
inline constexpr int64_t kVocabularyMin = 258;  // the 256 bytes and the two special tokens
// Generous bounds of single fields; CheckProducts bounds their products.
inline constexpr int64_t kWidthMax = int64_t{1} << 20;
inline constexpr int64_t kCountMax = int64_t{1} << 16;
inline constexpr int64_t kStepsMax = int64_t{1} << 40;
inline constexpr int64_t kVocabularyMax = int64_t{1} << 24;
inline constexpr int64_t kRowsMax = std::numeric_limits<int32_t>::max();  // kernels index rows with 32 bits
inline constexpr int64_t kElementsMax = int64_t{1}
                                        << 50;  // fp32 with gradients and moments: 2^54 bytes, far within 63 bits

inline constexpr double kFloatMin = 1.2e-38, kFloatMax = 3.4e38;  // normal fp32 range, rounded to two digits
static_assert(kFloatMin > std::numeric_limits<float>::min() && kFloatMax < std::numeric_limits<float>::max());
inline constexpr double kInitializerMax = 1e6;  // sums of products of such weights are still finite
// fp32 represents 1 - beta to within 3e-8, half a unit in the last place of beta: that is three digits at this bound,
// and hardly any closer to 1.
inline constexpr double kDecayMax = 0.99997;

inline std::string Text(int64_t value) { return absl::StrCat(value); }
inline std::string Text(double value) { return FormatExact(value); }

// Collects error lines. Each check returns whether it passed, so that callers can skip checks that depend on it.
class Checks {
 public:
  explicit Checks(std::string prefix) : prefix_(std::move(prefix)) {}

  bool That(bool ok, const std::string& field, const std::string& wrong, const std::string& wanted,
            const std::string& got) {
    if (!ok) lines_.push_back(absl::StrCat(prefix_, field, ": ", wrong, ", wanted ", wanted, ", got ", got));
    return ok;
  }
  bool Between(const std::string& field, int64_t value, int64_t least, int64_t most) {
    return That(value >= least && value <= most, field, "out of range", absl::StrCat(least, " to ", most), Text(value));
  }
  bool Set(const std::string& field, int64_t value, int64_t most) {
    if (value == 0) return That(false, field, "not set", absl::StrCat("1 to ", most), "0");
    return Between(field, value, 1, most);
  }
  // A path without control characters, which would garble messages; a zero byte would also truncate the path.
  bool Set(const std::string& field, const std::string& value) {
    const bool has_controls = std::any_of(value.begin(), value.end(), [](char c) { return absl::ascii_iscntrl(c); });
    return That(!value.empty(), field, "not set", "a path", "\"\"") &&
           That(!has_controls, field, "holds a control character", "a path without",
                absl::StrCat("\"", absl::CHexEscape(value), "\""));
  }
  bool MultipleOf(const std::string& field, int64_t value, int64_t multiple) {
    return That(value % multiple == 0, field, "unaligned", absl::StrCat("a multiple of ", multiple), Text(value));
  }
  // Kernels convert the number to fp32, where 1e300 is infinite and 1e-60 is 0, so it must be in the normal fp32 range.
  // NaN fails, too.
  bool Positive(const std::string& field, double value, double most = kFloatMax) {
    return That(value > 0 && std::isfinite(value), field, "out of range", "a finite number > 0", Text(value)) &&
           That(value >= kFloatMin && value <= most, field, "too small or too large to compute with",
                absl::StrCat(Text(kFloatMin), " to ", Text(most)), Text(value));
  }
  bool NotNegative(const std::string& field, double value) {
    return That(value >= 0 && std::isfinite(value), field, "out of range", "a finite number >= 0", Text(value)) &&
           (value == 0 || Positive(field, value));
  }
  // The decay `beta` of a moment, whose weight 1 - beta is also computed in fp32.
  bool Decay(const std::string& field, double value) {
    return That(value >= 0 && value < 1, field, "out of range", "at least 0 and less than 1", Text(value)) &&
           That(value == 0 || (value >= kFloatMin && value <= kDecayMax), field, "too close to 0 or 1 to compute with",
                absl::StrCat("0 or ", Text(kFloatMin), " to ", Text(kDecayMax)), Text(value));
  }
  bool ok() const { return lines_.empty(); }
  void Append(const Checks& others) { lines_.insert(lines_.end(), others.lines_.begin(), others.lines_.end()); }
  absl::Status ToStatus() const {
    return lines_.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(lines_, "\n"));
  }

 private:
  std::string prefix_;
  std::vector<std::string> lines_;
};

// CheckDit checks model.dit alone; CheckDitProducts checks products of its valid sizes and the batch.
void CheckDit(const DitConfig& dit, Checks* all);
void CheckDitProducts(const TrainConfig& config, Checks* checks);
// Checks sampling{} together with the model.
void CheckSampling(const TrainConfig& config, Checks* checks);
// The same for model.hunyuan_dit.
void CheckHunyuanDit(const HunyuanDitConfig& dit, Checks* all);
void CheckHunyuanDitProducts(const TrainConfig& config, Checks* checks);

// Checks data.prepare{} alone.
void CheckPrepare(const PrepareConfig& prepare, Checks* checks);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_CHECKS_H_
