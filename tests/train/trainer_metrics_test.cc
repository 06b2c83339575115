// What the trainer writes to metrics.jsonl and when: lines that found no room, steps with an evaluation.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/report/report_page.h"
#include "angel_ptm/train/report/run_report.h"
#include "angel_ptm/train/trainer.h"
#include "comm/forwarding_communicator.h"
#include "comm/local.h"
#include "nlohmann/json.hpp"
#include "tests/laws/trainer_run.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLastStep = 5;

struct Lines {
  std::optional<size_t> without_room, before_checkpoint;
};

// Gives the disk room again when the last checkpoint begins, and counts the lines in the file before and after that,
// ahead of the checkpoint.
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
  // An empty name means that a segment has ended. The last step's first micro-batch runs beside the previous update,
  // whose line is not written yet.
  const TrainerOptions options{.publish = [&](int64_t step, std::string_view name) {
    if (step == kLastStep && name.empty() && !limited.exchange(true)) limit.emplace(8);
  }};
  const absl::Status status = TrainRank(config, TrainerFacts(1), options, communicator);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen.without_room, kLastStep);
  EXPECT_EQ(seen.before_checkpoint, kLastStep + 1);
}

// A resumed run's report continues the curves of the earlier part, without the steps that are repeated.
TEST(TrainerMetricsTest, TheReportIsKeptUpAndGoesOnAfterAResume) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/true, folder.path(), "run", {"output.report_every_steps=2"});
  const TrainerOutcome stopped = RunTrainer({.configs = {config}, .stop_in_step = 3});
  ASSERT_TRUE(stopped.status().ok()) << stopped.status();
  const std::string directory = config.output().directory();
  const auto page = [&] { return Slurp(directory + "/report.html"); };
  EXPECT_NE(page().find("stopped as asked; --resume continues"), std::string::npos);
  EXPECT_EQ(page().find("http-equiv"), std::string::npos);
  // What a kill would have left: steps after the checkpoint.
  const auto before = ReadRun(directory);
  ASSERT_TRUE(before.ok()) << before.status();
  const int64_t saved = before->history.last_step() + 1;
  Spill(directory + "/metrics.jsonl", Slurp(directory + "/metrics.jsonl") + ToJson({.step = saved, .loss = 99}) + "\n");
  const TrainerOutcome resumed = RunTrainer({.configs = {config}, .resume = true});
  ASSERT_TRUE(resumed.status().ok()) << resumed.status();
  const auto after = ReadRun(directory);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(StateOf(*after), "finished, 6 of 6 steps");
  EXPECT_EQ(after->history.lines(), kLastStep + 1);
  EXPECT_EQ(after->history.missing().count(), 0);
  EXPECT_LT(after->history.Find("loss")->mean(), 50);
  EXPECT_EQ(after->experts.last_step(), kLastStep);
  EXPECT_EQ(after->experts.loads().size(), 2u);
  EXPECT_GT(after->history.Find("busy_compute")->mean(), 0);
  EXPECT_LE(after->history.Find("busy_compute")->mean(), after->history.Find("seconds")->mean());
  EXPECT_EQ(after->history.Find("device_bytes")->last(), static_cast<double>(after->sheet->memory[0].arena_bytes));
  EXPECT_TRUE(after->notes.empty()) << after->notes[0];
  // The page that was updated step by step equals the one made from the files.
  const auto plots = [](const std::string& text) { return text.substr(text.find("id=\"plots\"")); };
  std::vector<RunReport> runs = {*after};
  EXPECT_EQ(plots(page()), plots(ReportPage(runs, {.written = "now"})));
}

TEST(TrainerMetricsTest, AReportThatCannotBeWrittenIsOneWarning) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/false, folder.path(), "run", {"output.report_every_steps=1"});
  std::filesystem::create_directories(config.output().directory() + "/report.html/taken");
  const TrainerOutcome outcome = RunTrainer({.configs = {config}});
  EXPECT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_EQ(MetricLines(config).size(), kLastStep + 1);
  const std::string warning = "report.html: Is a directory; training goes on";
  const size_t first = outcome.text.find(warning);
  EXPECT_NE(first, std::string::npos) << outcome.text;
  EXPECT_EQ(outcome.text.find(warning, first + 1), std::string::npos) << outcome.text;
}

// Evaluation runs other batches through the same memory; a step's numbers must still be those of the step.
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

// Every token of a step is counted once, on whichever rank, in however many micro-batches, and even if blocks are
// computed twice. In the first step all cases have the same weights and samples.
TEST(TrainerMetricsTest, ExpertLoadsAreOfAllMicroBatchesAndRanks) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  struct Case {
    const char* name;
    int ranks;
    std::vector<std::string> fields;
  };
  nlohmann::json wanted;
  double balance = 0;
  for (const Case& c :
       {Case{"one", 1, {"batch.micro_batch_sequences=4"}}, Case{"micro", 1, {"batch.micro_batch_sequences=1"}},
        Case{"again", 1, {"memory.recomputation=BLOCKS"}}, Case{"ranks", 2, {"batch.micro_batch_sequences=1"}},
        Case{"each", 4, {"batch.micro_batch_sequences=1", "sharding.zero_stage=3"}}}) {
    std::vector<std::string> fields = c.fields;
    fields.insert(fields.end(), {"evaluation.every_steps=0", "output.log_every_steps=1"});
    const TrainConfig config = TrainerConfig(/*moe=*/true, folder.path(), c.name, fields);
    const absl::Status status = RunTrainer({.configs = {config}, .world_size = c.ranks}).status();
    ASSERT_TRUE(status.ok()) << c.name << ": " << status;
    std::ifstream experts(config.output().directory() + "/experts.jsonl"),
        metrics(config.output().directory() + "/metrics.jsonl");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(experts, line);) lines.push_back(nlohmann::json::parse(line));
    ASSERT_EQ(lines.size(), kLastStep + 1) << c.name;
    const int64_t pairs = config.batch().global_batch_sequences() * config.data().sequence_length() *
                          config.model().hunyuan_lm().moe_topk();
    for (const nlohmann::json& line : lines) {
      double worst = 0;
      for (const nlohmann::json& layer : line["loads"]) {
        int64_t sum = 0, fullest = 0;
        for (const int64_t load : layer) sum += load, fullest = std::max(fullest, load);
        EXPECT_EQ(sum, pairs) << c.name << " " << line;
        worst = std::max(worst,
                         static_cast<double>(fullest * static_cast<int64_t>(layer.size())) / static_cast<double>(sum));
      }
      std::string text;
      ASSERT_TRUE(std::getline(metrics, text));
      EXPECT_NEAR(nlohmann::json::parse(text)["expert_balance"].get<double>(), worst, 1e-9) << c.name;
      if (line["step"] == 0) balance = worst;
    }
    if (wanted.is_null()) wanted = lines[0];
    EXPECT_EQ(lines[0], wanted) << c.name << " " << balance;
  }
}

// A program that plays the next step's micro-batch beside the update computes more than its own step; the last one then
// has nothing left to compute.
TEST(TrainerMetricsTest, SpeedsAreOfWhatWasComputed) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config =
      TrainerConfig(/*moe=*/false, folder.path(), "run",
                    {"evaluation.every_steps=0", "batch.global_batch_sequences=1", "batch.micro_batch_sequences=1"});
  ASSERT_TRUE(RunTrainer({.configs = {config}}).status().ok());
  std::vector<double> steps_computed, speeds;
  std::ifstream file(config.output().directory() + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    speeds.push_back(json["tokens_per_second"]);
    steps_computed.push_back(speeds.back() * static_cast<double>(json["seconds"]) /
                             static_cast<double>(config.data().sequence_length()));
  }
  ASSERT_EQ(steps_computed.size(), static_cast<size_t>(config.steps()));
  EXPECT_NEAR(steps_computed[0], 2, 1e-9);
  for (size_t i = 1; i + 1 < steps_computed.size(); ++i) EXPECT_NEAR(steps_computed[i], 1, 1e-9);
  EXPECT_EQ(speeds.back(), speeds[speeds.size() - 2]);
}

}  // namespace
}  // namespace angel_ptm
