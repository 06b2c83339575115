// What the trainer writes to metrics.jsonl and when: lines that found no room, steps that are evaluated.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/trainer.h"
#include "comm/local.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/forwarding_communicator.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLastStep = 5;

struct Lines {
  std::optional<size_t> without_room, before_checkpoint;
};

// There is room again when the last checkpoint begins; how many lines stand in the file before the checkpoint does?
class RoomForTheLastCheckpoint final : public ForwardingCommunicator {
 public:
  RoomForTheLastCheckpoint(Communicator& inner, const TrainConfig& config, std::optional<FileSizeLimit>& limit,
                           Lines& lines)
      : ForwardingCommunicator(inner), config_(config), limit_(limit), lines_(lines) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return SplitInto(color, tag, [this](Communicator& group) {
      return std::make_unique<RoomForTheLastCheckpoint>(group, config_, limit_, lines_);
    });
  }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    if (tag.what == "control calls so far" && tag.step == kLastStep + 1) {
      limit_.reset();
      lines_.without_room = MetricLines(config_).size();
    } else if (lines_.without_room && !lines_.before_checkpoint) {
      lines_.before_checkpoint = MetricLines(config_).size();
    }
    return ForwardingCommunicator::AllGather(dst, src, tag);
  }

 private:
  const TrainConfig& config_;
  std::optional<FileSizeLimit>& limit_;
  Lines& lines_;
};

TEST(TrainerMetricsTest, LinesThatFoundNoRoomStandBeforeTheCheckpointOfTheirSteps) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/false, folder.path(), "run", {"evaluation.every_steps=0"});
  LocalWorld world(1);
  const std::unique_ptr<Communicator> inner = world.Create(0);
  std::optional<FileSizeLimit> limit;
  Lines seen;
  RoomForTheLastCheckpoint communicator(*inner, config, limit, seen);
  std::atomic<bool> limited = false;
  // An empty name: a segment has ended. The last step's first micro-batch runs beside the update before, whose line is
  // not written yet.
  const TrainerOptions options{.publish = [&](int64_t step, std::string_view name) {
    if (step == kLastStep && name.empty() && !limited.exchange(true)) limit.emplace(8);
  }};
  const absl::Status status = TrainRank(config, TrainerFacts(1), options, communicator);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen.without_room, kLastStep);
  EXPECT_EQ(seen.before_checkpoint, kLastStep + 1);
}

// Evaluation runs other batches through the same memory: what is told of the step must be of the step.
TEST(TrainerMetricsTest, EvaluationChangesNoOtherNumber) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const auto lines = [&](int every_steps) {
    const TrainConfig config = TrainerConfig(/*moe=*/true, folder.path(), absl::StrCat("every", every_steps),
                                             {absl::StrCat("evaluation.every_steps=", every_steps)});
    const absl::Status status = RunTrainer({.configs = {config}}).status();
    EXPECT_TRUE(status.ok()) << status;
    return MetricLines(config);
  };
  const std::vector<std::string> wanted = lines(0);
  ASSERT_EQ(wanted.size(), kLastStep + 1);
  EXPECT_NE(wanted[0].find("expert_balance"), std::string::npos) << wanted[0];
  std::vector<std::string> evaluated = lines(1);
  for (std::string& line : evaluated) {
    const size_t validation = line.find("\"validation_");
    ASSERT_NE(validation, std::string::npos) << line;
    line.resize(validation);
  }
  EXPECT_EQ(evaluated, wanted);
}

}  // namespace
}  // namespace angel_ptm
