// Tiny trainings with the CUDA backend's kernels: their bits repeat, do not depend on the budget and continue after a
// stop, and their losses are near the host's.
#include "tests/gpu/trainer_cases.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

const TrainerCases& Cases() {
  static const TrainerCases cases = MakeTrainerCases();
  return cases;
}

// The parameters: mixture of experts or dense; bf16 or fp32.
class CudaTrainerTest : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  CudaTrainerTest() { PrepareTinyText(folder_.path()); }

  bool moe() const { return std::get<0>(GetParam()); }
  bool bf16() const { return std::get<1>(GetParam()); }

  TrainConfig Config(const std::string& run, std::vector<std::string> overrides) const {
    overrides.push_back(bf16() ? "numerics.compute=BF16" : "numerics.compute=FP32");
    if (!Cases().is_thorough) {
      for (const char* less : {"steps=2", "batch.global_batch_sequences=2", "evaluation.every_steps=0",
                               "model.hunyuan_lm.num_hidden_layers=1"}) {
        overrides.emplace_back(less);
      }
    }
    return TrainerConfig(moe(), folder_.path(), run, overrides);
  }
  // Trains on the device with `percent` of the memory that the run would take.
  TrainConfig Train(const std::string& run, int percent = 100) const {
    std::vector<std::string> overrides = {"device=CUDA", "memory.page_bytes=4096"};
    if (percent < 100) {
      const int64_t all = UnconstrainedDeviceBytes(Config(run, overrides), 1);
      overrides.push_back(absl::StrCat("memory.device_bytes=", all * percent / 100));
    }
    const TrainConfig config = Config(run, overrides);
    EXPECT_EQ(RunTrainer({.configs = {config}, .gpus = Cases().offer}).status(), absl::OkStatus());
    return config;
  }
  static void ExpectSameBits(const TrainConfig& got, const TrainConfig& want) {
    EXPECT_EQ(MetricLines(got), MetricLines(want));
    EXPECT_EQ(OrDie(NewestState(got)), OrDie(NewestState(want)));
  }

  const TemporaryFolder folder_;
};

TEST_P(CudaTrainerTest, NearTheHostAndTheSameWithinAnyBudget) {
  const TrainConfig host = Config("host", {"device=CPU"});
  ASSERT_EQ(RunTrainer({.configs = {host}}).status(), absl::OkStatus());
  const TrainConfig free = Train("free");
  const std::vector<double> got = Losses(free), want = Losses(host);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], (bf16() ? 1e-2 : 2e-5) * std::abs(want[i])) << "step " << i;
  }
  EXPECT_GT(got.front(), got.back());
  ExpectSameBits(Train("35", 35), free);
  if (!Cases().is_thorough) return;
  ExpectSameBits(Train("60", 60), free);
  ExpectSameBits(Train("again"), free);
}

TEST_P(CudaTrainerTest, GoesOnAfterAStop) {
  if (!Cases().is_thorough && (moe() || bf16())) GTEST_SKIP() << "emulated: dense in fp32 stands for all";
  const TrainConfig whole = Train("whole"), begun = Config("begun", {"device=CUDA"});
  ASSERT_EQ(RunTrainer({.configs = {begun}, .stop_in_step = 1, .gpus = Cases().offer}).status(), absl::OkStatus());
  ASSERT_EQ(RunTrainer({.configs = {begun}, .resume = true, .gpus = Cases().offer}).status(), absl::OkStatus());
  EXPECT_EQ(OrDie(NewestState(begun)), OrDie(NewestState(whole)));
}

INSTANTIATE_TEST_SUITE_P(Models, CudaTrainerTest, testing::Combine(testing::Bool(), testing::Bool()),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param) ? "Experts" : "Dense",
                                               std::get<1>(test.param) ? "Bf16" : "Fp32");
                         });

}  // namespace
}  // namespace angel_ptm
