// Law 1 on a device: cases played on streams of the fake device have the bits of the reference on the host, with ranks
// as threads and as processes.
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
        // A subset is enough: streams do not depend on which axes are combined.
        const std::vector<Axes> cases = AllPairs();
        const bool few = GetParam().expert_degree > 1;
        const size_t apart = few ? 1 : GetParam().transport == "local" && GetParam().size == 2 ? 2 : 4;
        for (size_t i = 0; i < cases.size(); i += apart) {
          if (GetParam().expert_degree > 1 && !cases[i].moe) continue;  // as without
          SCOPED_TRACE(testing::PrintToString(cases[i]));
          EXPECT_EQ(matrix.Check(cases[i]), absl::OkStatus());
        }
        EXPECT_GT(matrix.counts().moved, 0);
        EXPECT_EQ(matrix.counts().joined, matrix.counts().to_join);
      },
      on_device);
}

// bf16 gradients in their parameters' places, with one skipped step. The graphs recorded in that step are used again
// two steps later, except for its update.
TEST(DeviceGradientPlacesTest, SameBitsAsOnTheHost) {
  for (const int world : {1, 2}) {
    TinyRun run{
        .compute = DType::kBFloat16, .gradients = DType::kBFloat16, .zero_stage = 3, .steps = 5, .skipped_step = 1};
    const auto host = TrainLocally(run, world);
    ASSERT_TRUE(host.ok()) << host.status();
    run.device_kernels = &FakeDeviceKernels();
    run.device = [world](int rank) {
      return std::make_unique<FakeDevice>(FakeDeviceOptions{.seed = 16u * static_cast<unsigned>(world + rank)});
    };
    run.join = true;
    for (const int percent : {100, 35}) {
      SCOPED_TRACE(testing::Message() << world << " ranks, " << percent << " %");
      run.device_bytes = DeviceBudget(run, world, percent);
      const auto device = TrainLocally(run, world);
      ASSERT_TRUE(device.ok()) << device.status();
      EXPECT_EQ(device->Difference(*host), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, DeviceParityTest, testing::ValuesIn(LawWorlds()),
                         [](const auto& test) { return testing::PrintToString(test.param); });

}  // namespace
}  // namespace angel_ptm
