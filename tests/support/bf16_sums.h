// The errors allowed between a kernel's sums of bf16 products and exact sums.
#ifndef ANGEL_PTM_TESTS_SUPPORT_BF16_SUMS_H_
#define ANGEL_PTM_TESTS_SUPPORT_BF16_SUMS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/bf16_testing.h"

namespace angel_ptm {

inline std::vector<double> Magnitudes(std::vector<double> x) {
  for (double& value : x) value = std::abs(value);
  return x;
}

// Half a unit in the last place of a bf16 result, and a few roundings of fp32 sums.
inline constexpr double kBf16Rounding = 0x1p-8, kSumRounding = 8 * 0x1p-24;

// The largest |got - want| as a share of the allowed error: `rounding` times the value plus kSumRounding times the sum
// of magnitudes. Infinite if anything is NaN.
template <typename Got>
double ErrorShare(const Got& got, const std::vector<double>& want, const std::vector<double>& magnitude,
                  double rounding) {
  double share = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[static_cast<int64_t>(i)]) - want[i]);
    const double allowed = rounding * std::abs(want[i]) + kSumRounding * magnitude[i] + 1e-37;
    if (!(error <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    share = std::max(share, error / allowed);
  }
  return share;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_BF16_SUMS_H_
