// Runs tests on the first GPU. Without one, prints one sentence and exits with the code that ctest and tests/gpu/run
// take for skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "angel_ptm/memory/cuda_device_api.h"
#include "tests/gpu/gpu.h"

namespace angel_ptm {
namespace {

constexpr int kNoGpuCode = 77;

struct Gpu {
  std::unique_ptr<DeviceApi> api = MakeCudaDeviceApi();
  absl::StatusOr<std::unique_ptr<Device>> device =
      api == nullptr ? absl::FailedPreconditionError("this build has no CUDA") : Device::Open(*api, 0, 1);
};
Gpu& TheGpu() {
  static Gpu gpu;
  return gpu;
}

void LeaveOut(const std::string& tests) {
  std::string filter = testing::GTEST_FLAG(filter);
  filter += (filter.find('-') == std::string::npos ? ":-" : ":") + tests;
  testing::GTEST_FLAG(filter) = filter;
}

int RunOnGpu(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  const absl::StatusOr<Device*> gpu = TestGpu();
  if (!gpu.ok()) {
    std::printf("no GPU to test on: %s\n", std::string(gpu.status().message()).c_str());
    return kNoGpuCode;
  }
  std::printf("%s\n", (*gpu)->name().c_str());
  if (argc > 1 && std::string_view(argv[1]) == "--name-gpu") return 0;
  if (TestGpuMajor() < 9) LeaveOut("Cuda*Sm90a*");
  const int code = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() > 0) return code;
  std::printf("none of these tests is for this GPU\n");
  return kNoGpuCode;
}

}  // namespace

absl::StatusOr<Device*> TestGpu() {
  if (!TheGpu().device.ok()) return TheGpu().device.status();
  return TheGpu().device->get();
}

int TestGpuMajor() {
  DeviceProperties properties;
  TheGpu().api->GetProperties(0, &properties);
  return properties.major;
}

}  // namespace angel_ptm

int main(int argc, char** argv) { return angel_ptm::RunOnGpu(argc, argv); }
