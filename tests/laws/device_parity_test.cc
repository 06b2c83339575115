// Law 1 on a device: played on streams of the fake device, cases have the bits of the host's reference, with ranks as
// threads and as processes.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/laws/axes.h"
#include "tests/laws/law_worlds.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"

namespace angel_ptm {
namespace {

class DeviceParityTest : public testing::TestWithParam<LawWorld> {};

TEST_P(DeviceParityTest, SameBitsAsOnTheHost) {
  unsigned seed = 0;
  const PlantFault on_device = [&seed](TinyRun& run) {
    run.device_kernels = &FakeDeviceKernels();
    run.device = [seed = ++seed](int rank) {
      return std::make_unique<FakeDevice>(FakeDeviceOptions{.seed = 16 * seed + static_cast<unsigned>(rank)});
    };
  };
  RunInWorld(
      GetParam(),
      [](ParityMatrix& matrix) {
        // Some of them: which axes meet makes no difference to streams.
        const std::vector<Axes> cases = AllPairs();
        const size_t apart = GetParam().transport == "local" && GetParam().size == 2 ? 2 : 4;
        for (size_t i = 0; i < cases.size(); i += apart) {
          SCOPED_TRACE(testing::PrintToString(cases[i]));
          EXPECT_EQ(matrix.Check(cases[i]), absl::OkStatus());
        }
        EXPECT_GT(matrix.counts().moved, 0);
        EXPECT_EQ(matrix.counts().joined, matrix.counts().to_join);
      },
      on_device);
}

INSTANTIATE_TEST_SUITE_P(Worlds, DeviceParityTest, testing::ValuesIn(LawWorlds()),
                         [](const auto& test) { return testing::PrintToString(test.param); });

}  // namespace
}  // namespace angel_ptm
