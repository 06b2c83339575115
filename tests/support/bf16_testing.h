// bf16 operands, and the error of results that are rounded to bf16 once, for tests of kernels against fp64 references.
#ifndef ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_
#define ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "kernels/operand.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {

// A 64-byte aligned bf16 tensor. Starts as NaN, like TestTensor. A guard of NaN follows the last element, which reveals
// kernels that read or write too far.
class Bf16Tensor {
 public:
  explicit Bf16Tensor(int64_t n) : storage_(static_cast<size_t>(n) + 2 * kAlignment, kNan), n_(n) {}
  // Normal values times `scale`, drawn from `random`, rounded.
  Bf16Tensor(int64_t n, std::mt19937& random, float scale = 1.0f) : Bf16Tensor(n) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) Set(i, scale * normal(random));
  }
  ~Bf16Tensor() {
    const BFloat16* const guard = data() + n_;
    EXPECT_TRUE(std::all_of(guard, guard + kAlignment, [](BFloat16 x) { return x.bits == kNan.bits; }))
        << "written behind " << n_ << " elements";
  }
  Bf16Tensor(const Bf16Tensor&) = delete;
  Bf16Tensor& operator=(const Bf16Tensor&) = delete;

  int64_t size() const { return n_; }
  BFloat16* data() {
    return reinterpret_cast<BFloat16*>((reinterpret_cast<uintptr_t>(storage_.data()) + 63) & ~uintptr_t{63});
  }
  const BFloat16* data() const { return const_cast<Bf16Tensor*>(this)->data(); }
  float operator[](int64_t i) const { return ToFloat(data()[i]); }
  void Set(int64_t i, float value) { data()[i] = ToBFloat16(value); }
  void CopyFrom(const Bf16Tensor& other) { std::copy_n(other.data(), n_, data()); }
  std::vector<double> ToDouble() const {
    std::vector<double> values(static_cast<size_t>(n_));
    for (int64_t i = 0; i < n_; ++i) values[static_cast<size_t>(i)] = static_cast<double>((*this)[i]);
    return values;
  }
  bool SameBits(const Bf16Tensor& other) const {
    return n_ == other.n_ && std::memcmp(data(), other.data(), static_cast<size_t>(n_) * sizeof(BFloat16)) == 0;
  }
  bool AllNan(int64_t begin, int64_t end) const {
    return std::all_of(data() + begin, data() + end, [](BFloat16 x) { return std::isnan(ToFloat(x)); });
  }
  bool NoneNan(int64_t begin, int64_t end) const {
    return std::none_of(data() + begin, data() + end, [](BFloat16 x) { return std::isnan(ToFloat(x)); });
  }

  operator Operand() { return {data(), DType::kBFloat16}; }
  operator ConstOperand() const { return {data(), DType::kBFloat16}; }

 private:
  static constexpr int64_t kAlignment = 32;  // elements
  static constexpr BFloat16 kNan = {0x7fc0};

  std::vector<BFloat16> storage_;
  int64_t n_;
};

inline double ScaledError(const Bf16Tensor& got, const std::vector<double>& want) {
  return ScaledError(got.ToDouble().data(), want.data(), got.size());
}

// Half the distance between bf16 numbers at x: the largest error of one rounding.
inline double HalfBf16Ulp(double x) {
  return x == 0 ? 0 : std::ldexp(1.0, std::max(std::ilogb(x), std::numeric_limits<float>::min_exponent - 1) - 8);
}

// How far elements are from `want` beyond one rounding to bf16, over max |want|: the error of the fp32 arithmetic
// before the rounding. A value that was also rounded earlier shows as about 1e-3. Infinite if anything is NaN.
inline double ErrorBeyondRounding(const BFloat16* got, const double* want, int64_t n) {
  double beyond = 0, magnitude = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double error = std::abs(static_cast<double>(ToFloat(got[i])) - want[i]) - HalfBf16Ulp(want[i]);
    if (!(error <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    beyond = std::max(beyond, error);
    magnitude = std::max(magnitude, std::abs(want[i]));
  }
  if (beyond == 0) return 0;
  return magnitude == 0 ? std::numeric_limits<double>::infinity() : beyond / magnitude;
}
inline double ErrorBeyondRounding(const Bf16Tensor& got, const std::vector<double>& want) {
  return ErrorBeyondRounding(got.data(), want.data(), got.size());
}

// The error that a test case bounds if it runs with both types: that of the fp32 arithmetic.
inline double ErrorOfType(const TestTensor& got, const std::vector<double>& want) { return ScaledError(got, want); }
inline double ErrorOfType(const Bf16Tensor& got, const std::vector<double>& want) {
  return ErrorBeyondRounding(got, want);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_
