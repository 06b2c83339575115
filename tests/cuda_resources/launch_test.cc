// How kernels are launched, on a runtime that is none: the calls of launch.cuh, by the rules of CUDA's.
#include "kernels/cuda/launch.cuh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <map>

namespace angel_ptm::cuda {
namespace {

// Of the runtime: what a kernel's fixed arrays take, and a code that a launch returns.
std::size_t array_bytes = 0;
cudaError_t returned = cudaSuccess;
int launches = 0;
std::map<const void*, std::size_t> asked;  // by kernel: dynamic shared memory that it may have

constexpr std::size_t kUnasked = 48 << 10;

}  // namespace
}  // namespace angel_ptm::cuda

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  angel_ptm::cuda::asked[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void**) {
  using namespace angel_ptm::cuda;
  if (returned != cudaSuccess) return returned;
  const auto most = asked.find(kernel);
  const std::size_t dynamic_most = most != asked.end() ? most->second : kUnasked - array_bytes;
  if (config->dynamicSmemBytes > dynamic_most) return cudaErrorInvalidValue;
  ++launches;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "an error of the runtime that is none"; }

}  // extern "C"

namespace angel_ptm::cuda {
namespace {

void Kernel(int) {}

class LaunchTest : public testing::Test {
 protected:
  LaunchTest() {
    array_bytes = 0, returned = cudaSuccess, launches = 0;
    asked.clear();
  }
  static void LaunchWith(std::size_t shared_bytes) {
    Launch({.grid = {}, .block = {}, .shared_bytes = shared_bytes}, {}, &Kernel, 1);
  }
};

// Kernels with fixed arrays have less than 48 KB of dynamic shared memory unless it is asked for.
TEST_F(LaunchTest, AsksForSharedMemoryWithTheArraysInMind) {
  array_bytes = 10 << 10;
  for (const std::size_t bytes : {std::size_t{0}, kUnasked - array_bytes, kUnasked - 1024, kUnasked, 2 * kUnasked}) {
    asked.clear();
    LaunchWith(bytes);
  }
  EXPECT_EQ(launches, 5);
}

// The GPU failed before: the launch is not to blame, and whoever waits for its stream says what happened.
TEST_F(LaunchTest, LivesWithErrorsOfFormerWork) {
  for (const cudaError_t error : {cudaErrorECCUncorrectable, cudaErrorIllegalAddress, cudaErrorLaunchFailure,
                                  cudaErrorStreamCaptureInvalidated}) {
    returned = error;
    LaunchWith(0);
  }
  EXPECT_EQ(launches, 0);
}

TEST_F(LaunchTest, EndsTheProgramWhereTheLaunchItselfIsRefused) {
  for (const cudaError_t error : {cudaErrorInvalidValue, cudaErrorInvalidConfiguration, cudaErrorNoKernelImageForDevice,
                                  cudaErrorLaunchOutOfResources, cudaErrorMemoryAllocation}) {
    returned = error;
    EXPECT_DEATH(LaunchWith(0), "a CUDA kernel could not be launched: an error of the runtime that is none");
  }
}

TEST_F(LaunchTest, LaunchesNothingWhereTheGridIsEmpty) {
  Launch({.grid = {.x = 0}, .block = {}}, {}, &Kernel, 1);
  EXPECT_EQ(launches, 0);
}

}  // namespace
}  // namespace angel_ptm::cuda
