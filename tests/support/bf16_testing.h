// bf16 operands for tests of kernels, and what may separate a kernel's sums of their products from exact ones.
#ifndef ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_
#define ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "kernels/operand.h"

namespace angel_ptm {

// Like TestTensor: 64-byte aligned, NaN at first.
class Bf16Tensor {
 public:
  explicit Bf16Tensor(int64_t n) : storage_(static_cast<size_t>(n) + kAlignment), n_(n) {
    Fill(std::numeric_limits<float>::quiet_NaN());
  }
  // Normal values times `scale`, rounded.
  Bf16Tensor(int64_t n, std::mt19937& random, float scale = 1.0f) : Bf16Tensor(n) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) data()[i] = ToBFloat16(scale * normal(random));
  }
  Bf16Tensor(const Bf16Tensor&) = delete;
  Bf16Tensor& operator=(const Bf16Tensor&) = delete;

  int64_t size() const { return n_; }
  BFloat16* data() { return Aligned(storage_.data()); }
  const BFloat16* data() const { return Aligned(const_cast<BFloat16*>(storage_.data())); }
  float operator[](int64_t i) const { return ToFloat(data()[i]); }
  void Set(int64_t i, float value) { data()[i] = ToBFloat16(value); }
  void Fill(float value) { std::fill_n(data(), n_, ToBFloat16(value)); }
  void CopyFrom(const Bf16Tensor& other) { std::copy_n(other.data(), n_, data()); }
  std::vector<double> ToDouble() const {
    std::vector<double> values(n_);
    for (int64_t i = 0; i < n_; ++i) values[i] = static_cast<double>((*this)[i]);
    return values;
  }
  bool SameBits(const Bf16Tensor& other) const {
    return n_ == other.n_ && std::memcmp(data(), other.data(), static_cast<size_t>(n_) * sizeof(BFloat16)) == 0;
  }

  operator Operand() { return {data(), DType::kBFloat16}; }
  operator ConstOperand() const { return {data(), DType::kBFloat16}; }

 private:
  static constexpr size_t kAlignment = 32;  // elements
  static BFloat16* Aligned(BFloat16* p) {
    return reinterpret_cast<BFloat16*>((reinterpret_cast<uintptr_t>(p) + 63) & ~uintptr_t{63});
  }

  std::vector<BFloat16> storage_;
  int64_t n_;
};

inline std::vector<double> Magnitudes(std::vector<double> x) {
  for (double& value : x) value = std::abs(value);
  return x;
}

// Half a unit in the last place of a bf16 result, and a few roundings of fp32 sums.
inline constexpr double kBf16Rounding = 0x1p-8, kSumRounding = 8 * 0x1p-24;

// The largest |got - want| as a share of what it may be: `rounding` of the value and kSumRounding of the sum of
// magnitudes. Infinite if anything is NaN.
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

#endif  // ANGEL_PTM_TESTS_SUPPORT_BF16_TESTING_H_
