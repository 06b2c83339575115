// Runs the project's CUDA kernels under the emulator: operands, schedules, and what is expected of each run.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_KERNEL_RUNS_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_KERNEL_RUNS_H_

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/operand.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm::emulated {

inline constexpr DType TypeOf(float) { return DType::kFloat32; }
inline constexpr DType TypeOf(BFloat16) { return DType::kBFloat16; }
template <typename T>
Operand Out(DeviceArray<T>& array) {
  return {array.data(), TypeOf(T())};
}
template <typename T>
ConstOperand In(DeviceArray<T>& array) {
  return {array.data(), TypeOf(T())};
}

template <typename T>
constexpr bool IsFp32() {
  return TypeOf(T()) == DType::kFloat32;
}
template <typename T>
T Element(float x) {
  return Rounded<T>(x);
}
template <typename T>
std::vector<T> RandomElements(std::int64_t n, std::mt19937& random, float scale = 1.0f) {
  std::normal_distribution<float> normal;
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = Element<T>(scale * normal(random));
  return values;
}
template <typename T>
std::vector<double> ToDoubles(const std::vector<T>& values) {
  std::vector<double> doubles;
  for (const T value : values) doubles.push_back(static_cast<double>(ToFloat(value)));
  return doubles;
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Runs `prepare` and `launch` under every schedule. Each run must be without findings and give the bits of the first,
// which are returned.
template <typename T>
std::vector<T> RunClean(
    const std::function<void()>& launch, DeviceArray<T>& result, const std::function<void()>& prepare = [] {},
    int seeds = 2) {
  std::vector<T> first;
  for (const Schedule& schedule : Schedules(seeds)) {
    prepare();
    for (const Finding& finding : Emulate(schedule, launch)) {
      ADD_FAILURE() << finding.Describe() << " in " << schedule;
    }
    if (first.empty()) first = result.Get();
    EXPECT_TRUE(SameBits(result.Get(), first)) << "other bits in " << schedule;
  }
  return first;
}

// The error of fp32 results, or the error of bf16 results beyond their one rounding, over the largest value wanted.
inline double ErrorOf(const std::vector<float>& got, const std::vector<double>& want) {
  return ScaledError(got.data(), want.data(), static_cast<std::int64_t>(got.size()));
}
inline double ErrorOf(const std::vector<BFloat16>& got, const std::vector<double>& want) {
  return ErrorBeyondRounding(got.data(), want.data(), static_cast<std::int64_t>(got.size()));
}

// Calls the host kernel on plain vectors.
template <typename Args>
void RunOnHost(const Args& args) {
  RunKernel(KernelOf<Args>(CpuKernels()), args, 1);
}

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_KERNEL_RUNS_H_
