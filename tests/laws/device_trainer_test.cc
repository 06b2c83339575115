// The real trainer on a fake device. Data, evaluation, metrics and checkpoints have the host's bits, and a run resumes
// on the host from a device's checkpoint and the other way round. Also: what a run reports when the device fails or
// numbers become non-finite.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

// One GPU for each rank of a run.
class Gpus {
 public:
  explicit Gpus(int ranks, FakeDeviceOptions options = {}) {
    options.devices = ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      options.seed = static_cast<unsigned>(rank) + 7;
      apis_.push_back(std::make_unique<FakeDevice>(options));
    }
  }
  // Offers the GPUs with this NCCL between them, or with the reason why there is none.
  std::function<DeviceOffer(int)> Offer(
      absl::StatusOr<std::shared_ptr<NcclApi>> nccl = absl::FailedPreconditionError("no NCCL here")) const {
    return [this, nccl](int rank) {
      return DeviceOffer{.api = apis_[static_cast<size_t>(rank)].get(),
                         .kernels = &FakeDeviceKernels(),
                         .proven = true,
                         .local_rank = rank,
                         .local_ranks = static_cast<int>(apis_.size()),
                         .nccl = {.open = [nccl] { return nccl; }, .sum = &LaunchFakeSum}};
    };
  }

  // Steps run as graphs, each captured once and launched several times.
  void ExpectGraphs() const {
    for (const auto& api : apis_) {
      EXPECT_GT(api->graphs_captured(), 0);
      EXPECT_GT(api->graphs_launched(), api->graphs_captured());
    }
  }

  // What a profiler sees: lanes open ranges named after the plan's steps and close all of them.
  void ExpectRangesOfSteps() const {
    for (const auto& api : apis_) {
      int updates = 0;
      for (const auto& [thread, ranges] : api->ranges()) {
        EXPECT_EQ(ranges.open, 0);
        for (const auto& [name, count] : ranges.begun) updates += name.starts_with("update ") ? count : 0;
      }
      EXPECT_GT(updates, 0);
    }
  }

 private:
  std::vector<std::unique_ptr<FakeDevice>> apis_;
};

class DeviceTrainerTest : public testing::Test {
 protected:
  DeviceTrainerTest() { PrepareTinyText(folder_.path()); }

  TrainConfig Config(bool moe, const std::string& run, std::vector<std::string> overrides) const {
    return TrainerConfig(moe, folder_.path(), run, overrides);
  }

  const TemporaryFolder folder_;
};

// On two ranks, with an average of the weights and with budgets that make pages rest on the host.
TEST_F(DeviceTrainerTest, HasTheHostsBits) {
  for (const bool moe : {false, true}) {
    const std::string name = moe ? "moe" : "dense", average = "optimizer.ema_decay=0.9",
                      pages = "memory.page_bytes=4096";
    const TrainConfig host = Config(moe, name + "_host", {"device=CPU", average, pages});
    ASSERT_EQ(RunTrainer({.configs = {host}, .world_size = 2}).status(), absl::OkStatus());
    const int64_t budget = UnconstrainedDeviceBytes(host, 2) * 6 / 10;
    const TrainConfig device =
        Config(moe, name + "_device", {"device=CUDA", average, pages, absl::StrCat("memory.device_bytes=", budget)});
    const Gpus gpus(2);
    const TrainerOutcome outcome = RunTrainer({.configs = {device}, .world_size = 2, .gpus = gpus.Offer()});
    ASSERT_EQ(outcome.status(), absl::OkStatus());
    EXPECT_THAT(outcome.text, HasSubstr("device: GPU 0 (Fake H200)\n"));
    EXPECT_THAT(outcome.text, HasSubstr(" of host memory for collectives (no NCCL here)\n"));
    EXPECT_EQ(MetricLines(device), MetricLines(host));
    EXPECT_EQ(OrDie(NewestState(device)), OrDie(NewestState(host)));
    gpus.ExpectRangesOfSteps();
    gpus.ExpectGraphs();

    // Two steps are traced, so they are not launched as graphs but step by step.
    const TrainConfig by_nccl = Config(moe, name + "_nccl", {"device=CUDA", average, pages, "output.trace_steps=2"});
    const auto nccl = std::make_shared<FakeNccl>();
    const Gpus connected(2);
    const TrainerOutcome carried = RunTrainer({.configs = {by_nccl}, .world_size = 2, .gpus = connected.Offer(nccl)});
    ASSERT_EQ(carried.status(), absl::OkStatus());
    EXPECT_THAT(carried.text, HasSubstr("collectives: NCCL 2.99.0\n"));
    EXPECT_EQ(MetricLines(by_nccl), MetricLines(host));
    EXPECT_EQ(OrDie(NewestState(by_nccl)), OrDie(NewestState(host)));
    EXPECT_EQ(nccl->open() + nccl->aborted(), 0);
  }
}

TEST_F(DeviceTrainerTest, NcclThatCannotBeHadIsAnErrorOnlyWhereItIsInsistedOn) {
  const TrainConfig config = Config(false, "insists", {"device=CUDA", "communication.device_transport=NCCL"});
  const Gpus gpus(2);
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2, .gpus = gpus.Offer()});
  EXPECT_EQ(outcome.status().message(), "communication.device_transport: wanted NCCL, but no NCCL here");
}

// Each would wait for the other in a different collective.
TEST_F(DeviceTrainerTest, RanksWithAndWithoutAGpuDoNotTrainTogether) {
  const TrainConfig config = Config(false, "mixed", {"device=AUTO"});
  const Gpus gpus(2);
  const auto offer = gpus.Offer();
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2, .gpus = [&](int rank) {
                                               return rank == 0 ? offer(rank) : DeviceOffer{};
                                             }});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("device: rank 0 takes a GPU, rank 1 takes the CPU: wanted the same"));
  }
}

TEST_F(DeviceTrainerTest, GoesOnFromTheHostsCheckpoint) {
  const TrainConfig whole = Config(true, "whole", {"device=CPU"});
  ASSERT_EQ(RunTrainer({.configs = {whole}}).status(), absl::OkStatus());
  const TrainConfig begun = Config(true, "begun", {"device=CPU"});
  ASSERT_EQ(RunTrainer({.configs = {begun}, .stop_in_step = 2}).status(), absl::OkStatus());
  const Gpus gpus(1);
  const TrainConfig resumed = Config(true, "begun", {"device=AUTO"});
  const TrainerOutcome outcome = RunTrainer({.configs = {resumed}, .resume = true, .gpus = gpus.Offer()});
  ASSERT_EQ(outcome.status(), absl::OkStatus());
  EXPECT_THAT(outcome.text, HasSubstr("the numerics change: backend cpu -> fake device"));
  EXPECT_EQ(OrDie(NewestState(resumed)), OrDie(NewestState(whole)));
}

TEST_F(DeviceTrainerTest, AFailingDeviceIsNamedWithRankStepAndOp) {
  const Gpus gpus(1, {.fails_at_kernel = 700});
  const TrainerOutcome outcome =
      RunTrainer({.configs = {Config(false, "fails", {"device=CUDA"})}, .gpus = gpus.Offer()});
  EXPECT_THAT(
      std::string(outcome.status().message()),
      testing::MatchesRegex("in rank 0, step [0-5], (forward|backward|recompute|update|reduce-scatter) .* or soon "
                            "behind it: GPU 0 .Fake H200., .*error 214.*"));
}

// To find the tensor, the diagnosis plays the step again and looks at the output of every op.
TEST_F(DeviceTrainerTest, NumbersThatGoBadAreFoundAsOnTheHost) {
  const std::vector<std::string> diverging = {"optimizer.adamw.learning_rate=1e30", "optimizer.schedule.warmup_steps=0",
                                              "optimizer.skipped_steps_max=0"};
  std::vector<std::string> messages;
  for (const char* device : {"device=CPU", "device=CUDA"}) {
    std::vector<std::string> overrides = diverging;
    overrides.push_back(device);
    const Gpus gpus(1);
    const TrainerOutcome outcome = RunTrainer({.configs = {Config(true, device, overrides)}, .gpus = gpus.Offer()});
    messages.emplace_back(outcome.status().message());
  }
  EXPECT_THAT(messages[0], HasSubstr("the first tensor that went bad: "));
  const auto up_to_way_back = [](const std::string& message) { return message.substr(0, message.rfind("; ")); };
  EXPECT_EQ(up_to_way_back(messages[1]), up_to_way_back(messages[0]));
}

}  // namespace
}  // namespace angel_ptm
