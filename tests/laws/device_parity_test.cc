// Law 1 on a device: played on streams of the fake device, every case has the bits of the host's reference.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/laws/axes.h"
#include "tests/laws/parity.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

class DeviceParityTest : public testing::TestWithParam<int> {};

TEST_P(DeviceParityTest, SameBitsAsOnTheHost) {
  const TemporaryFolder folder;
  unsigned seed = 0;
  const PlantFault on_device = [&seed](TinyRun& run) {
    run.device_kernels = &FakeDeviceKernels();
    run.device = [seed = ++seed](int rank) {
      return std::make_unique<FakeDevice>(FakeDeviceOptions{.seed = 16 * seed + static_cast<unsigned>(rank)});
    };
  };
  ParityMatrix matrix(
      GetParam(), [](const TinyRun& run) { return TrainLocally(run, GetParam()); }, folder.path(), /*compares=*/true,
      on_device);
  // Some of them: which axes meet makes no difference to streams.
  const std::vector<Axes> cases = AllPairs();
  for (size_t i = 0; i < cases.size(); i += GetParam() == 2 ? 2 : 4) {
    const Axes& axes = cases[i];
    SCOPED_TRACE(testing::PrintToString(axes));
    EXPECT_EQ(matrix.Check(axes), absl::OkStatus());
  }
  EXPECT_GT(matrix.counts().moved, 0);
  EXPECT_EQ(matrix.counts().joined, matrix.counts().to_join);
}

INSTANTIATE_TEST_SUITE_P(Ranks, DeviceParityTest, testing::Values(1, 2, 3));

}  // namespace
}  // namespace angel_ptm
