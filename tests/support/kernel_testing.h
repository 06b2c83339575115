// Operands, calls, errors and finite differences for tests of kernels against fp64 references.
#ifndef ANGEL_PTM_TESTS_SUPPORT_KERNEL_TESTING_H_
#define ANGEL_PTM_TESTS_SUPPORT_KERNEL_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/operand.h"

namespace angel_ptm {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A 64-byte aligned fp32 tensor; ToDouble gives its values in fp64 for the reference. Starts as NaN, which reveals an
// element that a kernel should write but does not, or should not read but does.
class TestTensor {
 public:
  explicit TestTensor(int64_t n) : storage_(static_cast<size_t>(n) + kAlignment), n_(n) {
    Fill(std::numeric_limits<float>::quiet_NaN());
  }
  // Normal values times `scale`, drawn from `random`.
  TestTensor(int64_t n, std::mt19937& random, float scale = 1.0f) : TestTensor(n) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) data()[i] = scale * normal(random);
  }
  TestTensor(const TestTensor&) = delete;
  TestTensor& operator=(const TestTensor&) = delete;

  int64_t size() const { return n_; }
  float* data() { return Aligned(storage_.data()); }
  const float* data() const { return Aligned(const_cast<float*>(storage_.data())); }
  float& operator[](int64_t i) { return data()[i]; }
  float operator[](int64_t i) const { return data()[i]; }
  void Fill(float value) { std::fill_n(data(), n_, value); }
  std::vector<float> Copy() const { return {data(), data() + n_}; }
  void CopyFrom(const TestTensor& other) { std::copy_n(other.data(), n_, data()); }
  std::vector<double> ToDouble() const { return {data(), data() + n_}; }
  bool SameBits(const TestTensor& other) const {
    return n_ == other.n_ && std::memcmp(data(), other.data(), static_cast<size_t>(n_) * sizeof(float)) == 0;
  }

  operator Operand() { return {data(), DType::kFloat32}; }
  operator ConstOperand() const { return {data(), DType::kFloat32}; }

 private:
  static constexpr size_t kAlignment = 16;  // floats
  static float* Aligned(float* p) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + 63) & ~uintptr_t{63});
  }

  std::vector<float> storage_;
  int64_t n_;
};

// A context with `workspace_bytes` of scratch memory filled with NaN patterns. Bytes written after its end are a test
// failure when the context is destroyed.
class TestContext {
 public:
  explicit TestContext(int threads, int64_t workspace_bytes = 0)
      : workspace_((workspace_bytes + kGuardBytes) / static_cast<int64_t>(sizeof(float))) {
    std::byte* const bytes = reinterpret_cast<std::byte*>(workspace_.data());
    context_ = {threads, bytes, workspace_bytes, nullptr};
    std::fill_n(bytes + workspace_bytes, kGuardBytes, kGuard);
  }
  ~TestContext() {
    const std::byte* const guard = context_.workspace + context_.workspace_bytes;
    EXPECT_TRUE(std::all_of(guard, guard + kGuardBytes, [](std::byte byte) { return byte == kGuard; }))
        << "written behind the workspace of " << context_.workspace_bytes << " bytes";
  }
  TestContext(const TestContext&) = delete;
  TestContext& operator=(const TestContext&) = delete;
  operator const KernelContext&() const { return context_; }

 private:
  static constexpr int64_t kGuardBytes = 1 << 14;
  static constexpr std::byte kGuard{0xa5};

  TestTensor workspace_;
  KernelContext context_;
};

// The scratch memory that the host backend requires for an op.
template <typename Args>
int64_t WorkspaceBytes(const Args& args, int threads) {
  return KernelOf<Args>(CpuKernels()).workspace_bytes(args, {.threads = threads});
}

// Calls the host kernel with exactly that much scratch memory.
template <typename Args>
void RunKernel(const Kernel<Args>& kernel, const std::type_identity_t<Args>& args, int threads) {
  kernel(args, TestContext(threads, WorkspaceBytes(args, threads)));
}

// max |got - want| / max |want|; infinite if anything is NaN.
template <typename Got, typename Want>
double ScaledError(const Got* got, const Want* want, int64_t n) {
  double difference = 0, magnitude = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (!(d <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, d);
    magnitude = std::max(magnitude, std::abs(static_cast<double>(want[i])));
  }
  if (difference == 0) return 0;
  return magnitude == 0 ? std::numeric_limits<double>::infinity() : difference / magnitude;
}
inline double ScaledError(const TestTensor& got, const std::vector<double>& want) {
  return ScaledError(got.data(), want.data(), got.size());
}
template <typename Got>
double ScaledError(const std::vector<Got>& got, const std::vector<double>& want) {
  return ScaledError(got.data(), want.data(), static_cast<int64_t>(want.size()));
}

inline bool AllFinite(const TestTensor& x) {
  return std::all_of(x.data(), x.data() + x.size(), [](float value) { return std::isfinite(value); });
}

// d loss / d x by central differences at up to samples_max elements spread over x, in fp64. x is restored.
// Returns max |gradient - difference| / max |difference|.
inline double FiniteDifferenceError(const float* gradient, std::vector<double>& x, const std::function<double()>& loss,
                                    int64_t samples_max = 200) {
  const int64_t n = static_cast<int64_t>(x.size()), samples = std::min(n, samples_max);
  std::vector<double> got, want;
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t i = s * n / samples;
    const double at = x[i], step = 1e-5 * std::max(1.0, std::abs(at));
    x[i] = at + step;
    const double above = loss();
    x[i] = at - step;
    const double below = loss();
    x[i] = at;
    want.push_back((above - below) / (2 * step));
    got.push_back(static_cast<double>(gradient[i]));
  }
  return ScaledError(got.data(), want.data(), samples);
}

inline double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_KERNEL_TESTING_H_
