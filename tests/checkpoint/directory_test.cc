// Directories around a save: replaced, stale and displaced ones, and those that cannot be removed.
#include "angel_ptm/checkpoint/directory.h"

#include <gmock/gmock.h>
#include <sys/syscall.h>

#include <cerrno>

#include "angel_ptm/checkpoint/checkpoint.h"
#include "comm/forwarding_communicator.h"
#include "tests/base/child_process.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using std::filesystem::perms;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Saves by one rank.
absl::StatusOr<SavedCheckpoint> SaveAlone(const std::string& directory, int64_t step, int64_t keep_last = 0) {
  absl::StatusOr<SavedCheckpoint> saved;
  RunRanks(1, [&](Communicator& comm) {
    saved = Save({.directory = directory, .keep_last = keep_last}, SmallGraph(), step, comm);
  });
  return saved;
}

std::string WarningOfSave(const std::string& directory, int64_t step, int64_t keep_last = 0) {
  const auto saved = SaveAlone(directory, step, keep_last);
  EXPECT_TRUE(saved.ok()) << saved.status();
  return saved.ok() ? saved->warning : "";
}

void ExpectComplete(const std::string& path, int64_t step) {
  const auto reader = CheckpointReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->manifest().step, step);
  EXPECT_TRUE(reader->Verify().ok()) << reader->Verify();
}

// Puts a directory into `path` that keeps it from being removed.
void MakeUnremovable(const std::string& path) {
  std::filesystem::create_directories(path + "/kept/below");
  std::filesystem::permissions(path + "/kept", perms::owner_read | perms::owner_exec);
}

TEST(DirectoryTest, WhatFailsAfterTheExchangeIsAWarning) {
  const TemporaryFolder dir;
  RunUnprivileged(dir.path(), [&] {
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    MakeUnremovable(dir / "step-00000004");
    EXPECT_THAT(WarningOfSave(dir.path(), 4),
                AllOf(HasSubstr("the checkpoint that it replaced could not be removed: cannot remove"),
                      HasSubstr("step-00000004.tmp")));
    ExpectComplete(dir / "step-00000004", 4);
    EXPECT_FALSE(Exists(dir / "step-00000004/kept"));
    // The leftover is in the way of its own step only.
    EXPECT_THAT(WarningOfSave(dir.path(), 5),
                AllOf(HasSubstr("what a killed run left stays"), HasSubstr("step-00000004.tmp")));
    ExpectComplete(dir / "step-00000005", 5);
    EXPECT_FALSE(SaveAlone(dir.path(), 4).ok());
    ExpectComplete(dir / "step-00000004", 4);
    std::filesystem::permissions(dir / "step-00000004.tmp/kept", perms::owner_all);
    EXPECT_EQ(WarningOfSave(dir.path(), 6), "");
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000004", "step-00000005", "step-00000006"));
  });
}

TEST(DirectoryTest, AnOldCheckpointThatCannotBeRemovedIsAWarning) {
  const TemporaryFolder dir;
  RunUnprivileged(dir.path(), [&] {
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    MakeUnremovable(dir / "step-00000004");
    EXPECT_THAT(WarningOfSave(dir.path(), 5, /*keep_last=*/1), HasSubstr("an old checkpoint could not be removed"));
    ExpectComplete(dir / "step-00000005", 5);
    std::filesystem::permissions(dir / "step-00000004.tmp/kept", perms::owner_all);
  });
}

// A directory may be written but not opened: renames in it work, syncing it does not.
TEST(DirectoryTest, AFailingSyncAfterTheExchangeLosesNeither) {
  const TemporaryFolder dir;
  RunUnprivileged(dir.path(), [&] {
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    std::filesystem::copy(dir / "step-00000004", dir / "step-00000004.tmp");
    Spill(dir / "step-00000004.tmp/new", "");
    std::filesystem::permissions(dir.path(), perms::owner_write | perms::owner_exec);
    std::vector<std::string> warnings;
    const absl::StatusOr<bool> durable = PublishTemporary(dir.path(), 4, &warnings);
    std::filesystem::permissions(dir.path(), perms::owner_all);
    ASSERT_TRUE(durable.ok()) << durable.status();
    EXPECT_FALSE(*durable);
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("it might not survive a power cut: cannot open the directory")));
    EXPECT_TRUE(Exists(dir / "step-00000004/new"));
    ExpectComplete(dir / "step-00000004.tmp", 4);
  });
}

// Makes the directory impossible to sync from the time when all ranks have written until the checkpoint has its name.
class UnsyncableWhilePublishing : public ForwardingCommunicator {
 public:
  UnsyncableWhilePublishing(Communicator& inner, std::string directory)
      : ForwardingCommunicator(inner), directory_(std::move(directory)) {}
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    RETURN_IF_ERROR(ForwardingCommunicator::AllGather(dst, src, tag));
    std::filesystem::permissions(directory_, perms::owner_write | perms::owner_exec);
    return absl::OkStatus();
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    std::filesystem::permissions(directory_, perms::owner_all);
    return ForwardingCommunicator::Broadcast(dst, root, tag);
  }

 private:
  const std::string directory_;
};

TEST(DirectoryTest, NothingIsPrunedForACheckpointThatMightLoseItsName) {
  const TemporaryFolder dir;
  RunUnprivileged(dir.path(), [&] {
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    RunRanks(1, [&](Communicator& inner) {
      UnsyncableWhilePublishing comm(inner, dir.path());
      const auto saved = Save({.directory = dir.path(), .keep_last = 1}, SmallGraph(), 5, comm);
      EXPECT_TRUE(saved.ok()) << saved.status();
      EXPECT_THAT(saved.ok() ? saved->warning : "", HasSubstr("it might not survive a power cut"));
      return saved.status();
    });
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000004", "step-00000005"));
    EXPECT_EQ(WarningOfSave(dir.path(), 6, /*keep_last=*/1), "");
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000006"));
  });
}

TEST(DirectoryTest, ReplacesWhereTheFileSystemCannotExchange) {
  const TemporaryFolder dir;
  if (!SystemCallsCanFail()) GTEST_SKIP() << "system calls cannot be made to fail here";
  RunInChild([&] {
    ASSERT_TRUE(FailSystemCall(SYS_renameat2, 4, RENAME_EXCHANGE, EINVAL));
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    Spill(dir / "step-00000004/old", "");
    EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000004"));
    EXPECT_FALSE(Exists(dir / "step-00000004/old"));
    ExpectComplete(dir / "step-00000004", 4);
    // Any other error is reported.
    ASSERT_TRUE(FailSystemCall(SYS_renameat2, 4, RENAME_EXCHANGE, EIO));
    EXPECT_THAT(std::string(SaveAlone(dir.path(), 4).status().message()),
                HasSubstr("cannot replace the checkpoint of the same step"));
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000004"));
  });
}

// The state that a kill between the two renames leaves (FORMAT.md) counts as a checkpoint.
TEST(DirectoryTest, ADisplacedCheckpointIsOne) {
  const TemporaryFolder dir;
  EXPECT_EQ(WarningOfSave(dir.path(), 2), "");
  EXPECT_EQ(WarningOfSave(dir.path(), 4), "");
  std::filesystem::copy(dir / "step-00000004", dir / "step-00000004.tmp");
  std::filesystem::rename(dir / "step-00000004", dir / "step-00000004.old");
  const auto displaced = FindLatestCheckpoint(dir.path());
  ASSERT_TRUE(displaced.ok()) << displaced.status();
  EXPECT_EQ(displaced->path, dir / "step-00000004.old");
  EXPECT_EQ(displaced->warning, "");
  ExpectComplete(displaced->path, 4);
  EXPECT_EQ(WarningOfSave(dir.path(), 6), "");
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000002", "step-00000004", "step-00000006"));
  ExpectComplete(dir / "step-00000004", 4);

  // The state after the second rename.
  std::filesystem::copy(dir / "step-00000006", dir / "step-00000006.old");
  Spill(dir / "step-00000006.old/old", "");
  EXPECT_EQ(FindLatestCheckpoint(dir.path())->path, dir / "step-00000006");
  EXPECT_EQ(WarningOfSave(dir.path(), 6, /*keep_last=*/2), "");
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000004", "step-00000006"));
  EXPECT_FALSE(Exists(dir / "step-00000006/old"));
}

}  // namespace
}  // namespace angel_ptm
