// The lock-free update in the whole trainer: bits, checkpoints, falling back, what it reports, what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "angel_ptm/train/drift_guard.h"
#include "angel_ptm/train/train_state.h"
#include "nlohmann/json.hpp"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr int kWorld = 2;

TEST(DriftGuardTest, ComparesMeansWithTheLeastSoFar) {
  DriftGuard guard(1.5, 0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(guard.Add(2, i * 1000.0), "");
  EXPECT_EQ(guard.Add(9, 0), "");  // one outlier: a mean of 2.875
  EXPECT_THAT(guard.Add(9, 0), HasSubstr("the mean loss of 8 steps, 3.75, is more than 1.5 times the least so far, 2"));
  DriftGuard of_norm(0, 5);
  for (int i = 0; i < DriftGuard::kWindow; ++i) EXPECT_EQ(of_norm.Add(i * 1000.0, 1), "");
  EXPECT_THAT(of_norm.Add(0, 100), HasSubstr("(optimizer.lock_free.gradient_norm_band)"));
}

// Continued from any point through a checkpoint's text, the guard says what it would have said without a break.
TEST(DriftGuardTest, GoesOnFromWhatAnotherHasSeen) {
  const auto loss = [](int i) { return i < 20 ? 3.0 / (i + 1) : 7.0 / 3; };
  for (int cut = 0; cut < 20; ++cut) {
    DriftGuard whole(1.5, 2), first(1.5, 2), second(1.5, 2);
    for (int i = 0; i < cut; ++i) EXPECT_EQ(whole.Add(loss(i), 0.1 * i), first.Add(loss(i), 0.1 * i));
    const TrainState state{.losses = first.losses(), .gradient_norms = first.gradient_norms()};
    const absl::StatusOr<TrainState> back = TrainStateFromJson(ToJson(state), "x");
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->losses, state.losses);
    EXPECT_EQ(back->gradient_norms, state.gradient_norms);
    second.Remember(back->losses, back->gradient_norms);
    int drifted = 0;
    for (int i = cut; i < 30; ++i) {
      const std::string why = whole.Add(loss(i), 0.1 * i);
      EXPECT_EQ(second.Add(loss(i), 0.1 * i), why) << cut << " " << i;
      drifted += !why.empty();
    }
    EXPECT_GT(drifted, 0);
  }
  const std::string text = ToJson({.losses = {.last = {1, 2}}});
  EXPECT_TRUE(TrainStateFromJson(text, "x").ok());
  for (const char* wrong : {"7", "[1, \"x\"]", "[1,2,3,4,5,6,7,8,9]"}) {
    EXPECT_EQ(TrainStateFromJson(absl::StrReplaceAll(text, {{"[1.0,2.0]", wrong}}), "x").status().code(),
              absl::StatusCode::kDataLoss)
        << wrong;
  }
}

// Truncates this process's page files in the folder, as if their drive failed. Returns how many there are.
int BreakPageFiles(const std::string& folder) {
  int broken = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed;  // by another thread, since the folder was read
    const std::string target = std::filesystem::read_symlink(entry.path(), closed).string();
    if (closed || !target.starts_with(folder) || !target.ends_with(" (deleted)")) continue;
    EXPECT_EQ(truncate(entry.path().c_str(), 0), 0) << target;
    ++broken;
  }
  return broken;
}

class LockFreeTrainerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    PrepareTinyText(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }

  static TrainConfig Synchronous(const std::string& run, std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.end(), {"sharding.zero_stage=3", "memory.page_bytes=8192"});
    return TrainerConfig(/*moe=*/true, folder_->path(), run, overrides);
  }
  static TrainConfig LockFree(const std::string& run, std::vector<std::string> overrides) {
    TrainConfig config = Synchronous(run, std::move(overrides));
    config.mutable_memory()->set_device_bytes(UnconstrainedDeviceBytes(config, kWorld) * 6 / 10);
    config.mutable_optimizer()->set_update(OptimizerConfig::LOCK_FREE);
    return config;
  }
  // Optimizer states rest in a file, and the run has the least host memory that the rest needs.
  static TrainConfig WithFile(TrainConfig config) {
    NvmeConfig& nvme = *config.mutable_memory()->mutable_nvme();
    nvme.set_directory(folder_->path());
    nvme.set_allow_buffered(true);
    config.mutable_memory()->set_host_bytes(config.memory().page_bytes());
    const std::string refused = Refusal(config);
    std::smatch least;
    EXPECT_TRUE(std::regex_search(refused, least, std::regex(R"(the least that works is [^(]*\((\d+)\))"))) << refused;
    if (!least.empty()) config.mutable_memory()->set_host_bytes(std::stoll(least[1]));
    return config;
  }
  static std::string Train(const TrainConfig& config, bool resume = false, int64_t stop_in_step = -1) {
    const TrainerOutcome outcome =
        RunTrainer({.configs = {config}, .world_size = kWorld, .resume = resume, .stop_in_step = stop_in_step});
    EXPECT_TRUE(outcome.status().ok()) << outcome.status();
    return outcome.text;
  }
  static std::string Refusal(const TrainConfig& config) {
    const absl::Status status = RunTrainer({.configs = {config}, .world_size = kWorld}).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }
  static std::vector<float> State(const TrainConfig& config) {
    auto state = NewestState(config);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *std::move(state) : std::vector<float>();
  }
  static std::vector<nlohmann::json> Lines(const TrainConfig& config) {
    std::ifstream file(config.output().directory() + "/metrics.jsonl");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* LockFreeTrainerTest::folder_ = nullptr;

TEST_F(LockFreeTrainerTest, WithoutStalenessItsMetricsAndCheckpointAreTheSynchronousOnes) {
  const TrainConfig wanted = Synchronous("synchronous"),
                    config = LockFree("zero", {"optimizer.lock_free.max_staleness=0"});
  Train(wanted);
  const std::string text = Train(config);
  EXPECT_EQ(MetricLines(config), MetricLines(wanted));
  EXPECT_EQ(State(config), State(wanted));
  EXPECT_THAT(text, HasSubstr("lock-free update, at most 0 steps stale"));
  EXPECT_THAT(text, HasSubstr("\nmailboxes "));
}

// The sweeps of every traced step read and write the file, on lanes of their own.
TEST_F(LockFreeTrainerTest, ATraceHasTheSweeps) {
  const TrainConfig config = WithFile(
      LockFree("traced", {"optimizer.lock_free.max_staleness=0", "output.trace_steps=2", "output.trace_first_step=2"}));
  Train(config);
  for (int rank = 0; rank < kWorld; ++rank) {
    std::ifstream file(absl::StrCat(config.output().directory(), "/trace-", rank, ".json"));
    std::map<int, std::string> lanes;                     // by tid
    std::map<std::string, std::map<int, int>> of_sweeps;  // spans by lane and step
    std::set<std::string> segments;
    const nlohmann::json document = nlohmann::json::parse(file);
    for (const nlohmann::json& event : document["traceEvents"]) {
      if (event["name"] == "thread_name") lanes[event["tid"]] = event["args"]["name"];
      if (event["ph"] != "X" || !lanes[event["tid"]].starts_with("lock-free ")) continue;
      ++of_sweeps[lanes[event["tid"]]][event["args"]["step"]];
      segments.insert(event["cat"]);
    }
    // Without staleness, step n starts the jobs of step n - 1, and all of these are done when the trace is written.
    EXPECT_GT(segments.size(), 1u);
    for (const char* lane : {"lock-free file-in", "lock-free host-compute", "lock-free file-out"}) {
      EXPECT_EQ(of_sweeps[lane].size(), 2u) << lane;
      EXPECT_EQ(of_sweeps[lane][2], of_sweeps[lane][3]) << lane;
    }
  }
}

// Evaluations and checkpoints drain pending updates, and a resumed run starts with none.
TEST_F(LockFreeTrainerTest, ARunIsResumedBitForBitFromWhereItWasDrained) {
  const std::vector<std::string> fields = {"optimizer.lock_free.max_staleness=1", "optimizer.ema_decay=0.9",
                                           "checkpoint.every_steps=3"};
  const TrainConfig straight = LockFree("straight", fields), stopped = LockFree("stopped", fields);
  const std::string text = Train(straight);
  EXPECT_THAT(text, HasSubstr("  units by lag 1:"));
  const std::vector<nlohmann::json> lines = Lines(straight);
  ASSERT_EQ(lines.size(), 6u);
  const int64_t units = lines[0]["units_by_lag"][0];
  EXPECT_GT(units, 1);
  for (const int64_t step : {0, 3}) EXPECT_EQ(lines[step]["units_by_lag"], nlohmann::json({units, 0})) << step;
  for (const int64_t step : {1, 2, 4, 5}) {
    EXPECT_EQ(lines[step]["units_by_lag"], nlohmann::json({0, units})) << step;
    EXPECT_EQ(lines[step]["lag_max"], 1);
  }
  // The run stops in the middle of step 3, of which nothing is kept: the checkpoint is that of the steps before.
  Train(stopped, /*resume=*/false, /*stop_in_step=*/3);
  ASSERT_EQ(Lines(stopped).size(), 3u);
  Train(stopped, /*resume=*/true);
  EXPECT_EQ(MetricLines(stopped), MetricLines(straight));
  EXPECT_EQ(State(stopped), State(straight));
}

// A rank that publishes an activity must give signs of life within the limit; if it saved a checkpoint for longer, it
// would be taken for one that hangs.
TEST_F(LockFreeTrainerTest, BehindADrainARankIsBetweenSteps) {
  const TrainConfig config = LockFree("between", {"optimizer.lock_free.max_staleness=1", "evaluation.every_steps=0"});
  std::mutex mutex;
  std::map<std::thread::id, std::string> newest;  // by who published it
  std::set<std::thread::id> waited;
  const auto watch = [&](int64_t, std::string_view activity) {
    const std::lock_guard lock(mutex);
    newest[std::this_thread::get_id()] = activity;
    if (activity == "waiting for a lock-free update") waited.insert(std::this_thread::get_id());
  };
  EXPECT_TRUE(RunTrainer({.configs = {config}, .world_size = kWorld, .watch = watch}).status().ok());
  EXPECT_FALSE(waited.empty());
  for (const std::thread::id& rank : waited) EXPECT_EQ(newest[rank], "");
}

// Only the sweeps use the file. What they updated since the checkpoint is lost, and nothing else.
TEST_F(LockFreeTrainerTest, ADriveThatFailsUnderASweepEndsTheRunAndTheCheckpointStays) {
  const std::vector<std::string> fields = {"optimizer.lock_free.max_staleness=1", "checkpoint.every_steps=3",
                                           "evaluation.every_steps=0", "steps=8"};
  const TrainConfig straight = WithFile(LockFree("intact", fields)), broken = WithFile(LockFree("broken", fields));
  Train(straight);
  constexpr int64_t kStep = 4;  // after the checkpoint of step 2
  std::once_flag once;
  std::atomic<int> files = 0;
  const TrainerOutcome outcome =
      RunTrainer({.configs = {broken}, .world_size = kWorld, .watch = [&](int64_t step, std::string_view) {
                    if (step < kStep) return;
                    std::call_once(once, [&] { files = BreakPageFiles(folder_->path()); });
                  }});
  EXPECT_EQ(files, kWorld);
  const std::string sentence(outcome.status().message());
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kDataLoss) << outcome.status();
  EXPECT_THAT(sentence, AllOf(HasSubstr("sweep of "), HasSubstr("pages of rank"), Not(HasSubstr("\n")))) << sentence;
  EXPECT_LT(outcome.last_step_begun, 8);
  EXPECT_FALSE(State(broken).empty());
  Train(broken, /*resume=*/true);
  EXPECT_EQ(MetricLines(broken), MetricLines(straight));
  EXPECT_EQ(State(broken), State(straight));
}

TEST_F(LockFreeTrainerTest, ARunThatDriftsGoesOnSynchronously) {
  const std::vector<std::string> fields = {"steps=20", "evaluation.every_steps=0",
                                           "optimizer.lock_free.loss_band=1.02"};
  std::vector<std::string> wild = fields;
  wild.insert(wild.end(), {"optimizer.schedule.kind=CONSTANT", "optimizer.adamw.learning_rate=0.5"});
  const TrainConfig config = LockFree("drifts", wild);
  const std::string text = Train(config);
  EXPECT_THAT(text, HasSubstr("(optimizer.lock_free.loss_band): pending updates are applied, and the run continues "
                              "synchronously\n"));
  bool fell_back = false;
  for (const nlohmann::json& line : Lines(config)) {
    const nlohmann::json& lags = line["units_by_lag"];
    EXPECT_EQ(lags.size(), fell_back ? 1u : 3u) << line;
    fell_back |= line.contains("fell_back");
  }
  EXPECT_TRUE(fell_back);
  // A resumed run stays synchronous.
  TrainConfig longer = config;
  longer.set_steps(22);
  EXPECT_THAT(Train(longer, /*resume=*/true),
              HasSubstr("fell back to the synchronous update earlier and keeps using it"));
  EXPECT_EQ(Lines(longer).back()["units_by_lag"].size(), 1u);
  // A run that does not drift stays lock-free.
  const TrainConfig calm = LockFree("calm", fields);
  EXPECT_THAT(Train(calm), Not(HasSubstr("synchronously")));
}

// The steps since the resume are too few for a mean of their own that a later one could exceed.
TEST_F(LockFreeTrainerTest, ARunThatDriftsRightAfterAResumeIsSeen) {
  TrainConfig config =
      LockFree("resumed_drift", {"steps=10", "evaluation.every_steps=0", "optimizer.lock_free.loss_band=1.02",
                                 "optimizer.schedule.kind=CONSTANT", "optimizer.schedule.warmup_steps=0"});
  EXPECT_THAT(Train(config), Not(HasSubstr("synchronously")));
  config.set_steps(10 + DriftGuard::kWindow);
  config.mutable_optimizer()->mutable_adamw()->set_learning_rate(0.5);
  EXPECT_THAT(Train(config, /*resume=*/true), HasSubstr("the run continues synchronously"));
}

TEST_F(LockFreeTrainerTest, WhatItCannotDoIsRefused) {
  const TrainConfig config = LockFree("refused", {});
  TrainConfig other = config;
  other.mutable_memory()->set_device_bytes(0);
  EXPECT_THAT(Refusal(other), HasSubstr("the update is lock-free, but all state has room on the device, where there is "
                                        "nothing to hide: set optimizer.update=SYNCHRONOUS, or a smaller"));
  other = config;
  other.mutable_sharding()->set_zero_stage(2);
  EXPECT_THAT(
      Refusal(other),
      HasSubstr("optimizer.update: at sharding.zero_stage 2 ranks have copies of parameters that others update, "
                "wanted SYNCHRONOUS, or sharding.zero_stage 3, got LOCK_FREE"));
  other = config;
  other.mutable_optimizer()->mutable_lock_free()->set_max_staleness(65);
  EXPECT_THAT(Refusal(other), HasSubstr("optimizer.lock_free.max_staleness: out of range, wanted 0 to 64, got 65"));
  other = config;
  other.mutable_optimizer()->mutable_lock_free()->set_loss_band(0.9);
  EXPECT_THAT(Refusal(other), HasSubstr("optimizer.lock_free.loss_band: not a band, wanted 0 (off) or more than 1"));
  other = config;
  other.mutable_numerics()->set_compute(NumericsConfig::BF16);
  other.mutable_numerics()->set_gradients(NumericsConfig::BF16);
  EXPECT_THAT(Refusal(other), HasSubstr("numerics.gradients: a lock-free update reads parameters in place"));
  other = config;
  other.set_device(TrainConfig::CUDA);
  EXPECT_THAT(Refusal(other), HasSubstr("device: wanted CUDA, but optimizer.update=LOCK_FREE is for the CPU so far"));
}

}  // namespace
}  // namespace angel_ptm
