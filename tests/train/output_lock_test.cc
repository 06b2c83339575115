#include "angel_ptm/train/output_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

TEST(OutputLockTest, TheSecondIsToldWhoHasIt) {
  const TemporaryFolder folder;
  const std::string directory = folder / "runs/a";
  {
    const auto first = OutputLock::Take(directory);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->note(), "");
    const absl::Status second = OutputLock::Take(directory).status();
    EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition) << second;
    EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("is in use by process ", getpid(), " on host ")));
    EXPECT_TRUE(OutputLock::Take(folder / "runs/b").ok());
  }
  // Nothing was written to the directory, so nothing is left.
  EXPECT_FALSE(std::filesystem::exists(folder / "runs"));
  std::filesystem::create_directories(directory);
  EXPECT_TRUE(OutputLock::Take(directory).ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory));
}

TEST(OutputLockTest, ADeadProcessesLockIsTakenOver) {
  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = OutputLock::Take(folder.path());
    _exit(lock.ok() ? 0 : 1);  // as if killed: no destructor runs
  }
  int ended = -1;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  ASSERT_EQ(ended, 0);
  ASSERT_THAT(Slurp(folder / "lock"), HasSubstr(absl::StrCat("process ", child, " on host ")));
  const auto lock = OutputLock::Take(folder.path());
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT(lock->note(), HasSubstr(absl::StrCat("of process ", child, " on host ")));
  EXPECT_THAT(Slurp(folder / "lock"), HasSubstr(absl::StrCat("process ", getpid(), " on host ")));
}

TEST(OutputLockTest, ARunBesideALiveOneIsRefusedAndChangesNothing) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/false, folder.path(), "run", {"steps=3"});
  {
    const auto lock = OutputLock::Take(folder / "run");
    ASSERT_TRUE(lock.ok()) << lock.status();
    const TrainerOutcome refused = RunTrainer({.configs = {config}, .world_size = 2});
    for (const absl::Status& status : refused.statuses) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("run is in use by process ")) << status;
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "run/metrics.jsonl"));
  }
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2});
  EXPECT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_FALSE(std::filesystem::exists(folder / "run/lock"));
}

TEST(OutputLockTest, IsTakenAgainWhereItsFileWasRemoved) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  auto lock = OutputLock::Take(directory);
  ASSERT_TRUE(lock.ok()) << lock.status();
  std::filesystem::remove(directory + "/lock");
  EXPECT_EQ(lock->Keep(), absl::OkStatus());
  EXPECT_NE(OutputLock::Holder(directory), "");
  std::filesystem::remove_all(directory);
  EXPECT_EQ(lock->Keep(), absl::OkStatus());
  EXPECT_FALSE(std::filesystem::exists(directory));  // it may be on a file system that is not mounted now
  std::filesystem::create_directory(directory);
  EXPECT_EQ(lock->Keep(), absl::OkStatus());
  EXPECT_NE(OutputLock::Holder(directory), "");
}

TEST(OutputLockTest, AnothersIsLeftAlone) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  std::optional<absl::StatusOr<OutputLock>> first = OutputLock::Take(directory);
  std::filesystem::remove_all(directory);
  const auto second = OutputLock::Take(directory);
  ASSERT_TRUE(second.ok()) << second.status();
  const absl::Status lost = (*first)->Keep();
  EXPECT_EQ(lost.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(lost.message()),
              HasSubstr("its lock was removed, and " + directory + " is in use by process "));
  first.reset();
  EXPECT_TRUE(std::filesystem::exists(directory + "/lock"));
  EXPECT_NE(OutputLock::Holder(directory), "");
}

// The run's directory is removed while it trains, and another run begins there.
TEST(OutputLockTest, ARunThatHasLostItsDirectoryWritesNothingMore) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/false, folder.path(), "run", {"checkpoint.every_steps=1"});
  std::optional<absl::StatusOr<OutputLock>> other;
  std::once_flag once;
  const TrainerOutcome outcome = RunTrainer({.configs = {config}, .watch = [&](int64_t step, std::string_view) {
                                               if (step < 3) return;
                                               std::call_once(once, [&] {
                                                 std::filesystem::remove_all(folder / "run");
                                                 other.emplace(OutputLock::Take(folder / "run"));
                                                 Spill(folder / "run/metrics.jsonl", "another run's");
                                               });
                                             }});
  ASSERT_TRUE(other && other->ok());
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("the run has lost its output directory"));
  EXPECT_EQ(Slurp(folder / "run/metrics.jsonl"), "another run's");
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "run")) left.insert(entry.path().filename());
  EXPECT_THAT(left, testing::ElementsAre("lock", "metrics.jsonl"));
}

// The next checkpoint creates the directory again, with everything that a report reads.
TEST(OutputLockTest, ARunWhoseDirectoryWasRemovedWritesItsFilesAgain) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config = TrainerConfig(/*moe=*/true, folder.path(), "run", {"checkpoint.every_steps=2"});
  std::once_flag once;
  const TrainerOutcome outcome =
      RunTrainer({.configs = {config}, .watch = [&](int64_t step, std::string_view) {
                    if (step < 2) return;
                    std::call_once(once, [&] { std::filesystem::remove_all(folder / "run"); });
                  }});
  EXPECT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_EQ(MetricLines(config).size(), 6u);
  for (const char* name : {"run.json", "experts.jsonl", "report.html"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "run/" + name)) << name;
  }
}

// The error comes at the start, not at the first checkpoint.
TEST(CheckWritableTest, ARankThatCannotWriteEndsTheRunAtItsStart) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig usual = TrainerConfig(/*moe=*/false, folder.path(), "run");
  const TrainConfig other = TrainerConfig(/*moe=*/false, folder.path(), "text/prose.txt");  // a file
  const TrainerOutcome outcome = RunTrainer({.configs = {usual, other}, .world_size = 2});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("rank 1: cannot write ", folder.path(), "/text/prose.txt/")))
        << status;
  }
  EXPECT_EQ(outcome.last_step_begun, -1);
}

// Each machine has a directory of the same name. The run detects this at the start, not by checkpoints that fail to be
// saved.
TEST(CheckSharedTest, AnotherDirectoryOfTheNameIsRefused) {
  const TemporaryFolder folder;
  const auto lock = OutputLock::Take(folder / "run");
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(CheckShared(folder / "run", lock->holder(), 0), absl::OkStatus());
  std::filesystem::create_directory(folder / "other");
  const auto refusal = [&] { return std::string(CheckShared(folder / "other", lock->holder(), 0).message()); };
  EXPECT_THAT(refusal(), HasSubstr("/other must be shared by all ranks"));
  EXPECT_THAT(refusal(), HasSubstr("/other/lock of " + lock->holder() + ", got none"));
  Spill(folder / "other/lock", "process 1 on host elsewhere since yesterday\n");
  EXPECT_THAT(refusal(), HasSubstr("got that of process 1 on host elsewhere since yesterday"));
}

TEST(CheckSharedTest, ARankWithAnotherDirectoryEndsTheRunAtItsStart) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  std::filesystem::create_directory(folder / "other");
  Spill(folder / "other/lock", "process 1 on host elsewhere since yesterday\n");
  const TrainConfig usual = TrainerConfig(/*moe=*/false, folder.path(), "run");
  const TrainConfig other = TrainerConfig(/*moe=*/false, folder.path(), "other");
  const TrainerOutcome outcome = RunTrainer({.configs = {usual, other}, .world_size = 2});
  for (const absl::Status& status : outcome.statuses) {
    EXPECT_THAT(std::string(status.message()), HasSubstr("/other must be shared by all ranks")) << status;
  }
  EXPECT_EQ(outcome.last_step_begun, -1);
}

}  // namespace
}  // namespace angel_ptm
