#include "angel_ptm/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "angel_ptm/base/file_stream.h"
#include "tests/base/child_process.h"
#include "tests/support/interrupted_sync.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  std::string At(const std::string& name) const { return folder_ / name; }
  std::vector<std::string> Names() const { return ListDirectory(folder_.path()).value(); }

  const TemporaryFolder folder_;
};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(FileErrorTest, SaysWhatWhereAndWhy) {
  const absl::Status full = FileError("write", "run/a", ENOSPC);
  EXPECT_EQ(full, absl::ResourceExhaustedError("cannot write run/a: No space left on device"));
  EXPECT_EQ(FileError("write", "a", EFBIG).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FileError("open", "a", ENOENT).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FileError("open", "a", EACCES).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(FileError("create", "a", EEXIST).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(FileError("read", "a", EIO).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(FileError("read", "a", ELOOP).code(), absl::StatusCode::kUnknown);
}

TEST_F(FileTest, ReadsInOneBufferOfTheFilesSize) {
  const std::string text(5 << 20, 'x');
  Spill(At("a"), text);
  const auto content = ReadFile(At("a"));
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(*content, text);
  EXPECT_LT(content->capacity(), text.size() + 100);
  Spill(At("empty"), "");
  EXPECT_EQ(ReadFile(At("empty")).value(), "");
}

TEST_F(FileTest, RefusesWhatItShouldNotRead) {
  Spill(At("a"), "12345");
  EXPECT_EQ(ReadFile(At("a"), 5).value(), "12345");
  EXPECT_THAT(Message(ReadFile(At("a"), 4).status()), HasSubstr("/a has 5 B, at most 4 B expected"));
  EXPECT_EQ(ReadFile(At("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(ReadFile(folder_.path()).status()), HasSubstr("is a directory, not a file"));
  // Opening a pipe without a writer would block.
  ASSERT_EQ(mkfifo(At("pipe").c_str(), 0600), 0);
  EXPECT_THAT(Message(ReadFile(At("pipe")).status()), HasSubstr("is not a regular file"));
  const auto reader = FileReader::Open(At("a"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::byte three[3];
  EXPECT_TRUE(reader->ReadAt(2, three).ok());
  EXPECT_THAT(Message(reader->ReadAt(3, three)), HasSubstr("/a ends at byte 5, wanted 3 bytes from byte 3"));
}

TEST_F(FileTest, AnAtomicFileAppearsWhole) {
  Spill(At("a"), "old");
  {
    auto file = AtomicFile::Create(At("a"));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Append("new content").ok());
    ASSERT_TRUE(file->WriteAt(0, "NEW", 3).ok());
    EXPECT_EQ(file->bytes(), 11);
    EXPECT_EQ(Slurp(At("a")), "old");
    ASSERT_TRUE(file->Commit().ok());
  }
  EXPECT_EQ(Slurp(At("a")), "NEW content");
  {
    auto file = AtomicFile::Create(At("a"));
    ASSERT_TRUE(file.ok() && file->Append("lost").ok() && file->Close().ok());
    EXPECT_THAT(Names(), ElementsAre("a", "a.tmp"));
  }
  EXPECT_THAT(Names(), ElementsAre("a"));
  EXPECT_TRUE(WriteFile(At("a"), "third").ok());
  EXPECT_EQ(Slurp(At("a")), "third");
  EXPECT_EQ(WriteFile(At("none/a"), "").code(), absl::StatusCode::kNotFound);
}

TEST_F(FileTest, TwoDoNotWriteOneFile) {
  Spill(At("a.tmp"), "what a killed process left");
  {
    auto first = AtomicFile::Create(At("a"));
    ASSERT_TRUE(first.ok() && first->Append("first").ok());
    EXPECT_THAT(Message(WriteFile(At("a"), "second")),
                AllOf(HasSubstr("cannot write " + At("a")), HasSubstr("another process is writing it")));
    ASSERT_TRUE(first->Close().ok());
    EXPECT_FALSE(WriteFile(At("a"), "second").ok());  // until the first has its name, or gives it up
    ASSERT_TRUE(first->Commit().ok());
    EXPECT_EQ(Slurp(At("a")), "first");
    EXPECT_TRUE(WriteFile(At("a"), "third").ok());
  }
  EXPECT_EQ(Slurp(At("a")), "third");
  EXPECT_THAT(Names(), ElementsAre("a"));
}

TEST_F(FileTest, OnlyNoSuchFileIsNo) {
  Spill(At("file"), "");
  std::filesystem::create_symlink("nowhere", At("dangling"));
  std::filesystem::create_symlink("loop", At("loop"));
  EXPECT_TRUE(PathExists(At("file")).value());
  EXPECT_TRUE(PathExists(At("dangling")).value());
  EXPECT_FALSE(PathExists(At("none")).value());
  EXPECT_FALSE(PathExists(At("file/below")).value());
  EXPECT_THAT(Message(PathExists(At("loop/below")).status()), HasSubstr("cannot look for " + At("loop/below")));
  EXPECT_FALSE(PathExists(At(std::string(300, 'x'))).ok());
  RunUnprivileged(folder_.path(), [&] {
    std::filesystem::create_directories(At("closed/below"));
    std::filesystem::permissions(At("closed"), std::filesystem::perms::none);
    EXPECT_EQ(PathExists(At("closed/below")).status().code(), absl::StatusCode::kPermissionDenied);
    std::filesystem::permissions(At("closed"), std::filesystem::perms::owner_all);
  });
}

TEST_F(FileTest, MakesDirectories) {
  EXPECT_TRUE(MakeDirectories(At("a/b/c")).ok());
  EXPECT_TRUE(MakeDirectories(At("a/b/c/d//")).ok());
  EXPECT_TRUE(MakeDirectories(At("a/b")).ok());
  EXPECT_TRUE(MakeDirectories("/").ok());
  EXPECT_TRUE(std::filesystem::is_directory(At("a/b/c/d")));
  Spill(At("file"), "");
  EXPECT_THAT(Message(MakeDirectories(At("file"))), HasSubstr("cannot create the directory " + At("file")));
  EXPECT_FALSE(MakeDirectories(At("file/below")).ok());
  EXPECT_FALSE(MakeDirectories("").ok());
}

// Creating directories syncs every new level into its parent. A parent that may be written but not opened cannot be
// synced.
TEST_F(FileTest, MakesDirectoriesDurable) {
  RunUnprivileged(folder_.path(), [&] {
    using std::filesystem::perms;
    std::filesystem::permissions(folder_.path(), perms::owner_write | perms::owner_exec);
    const absl::Status status = MakeDirectories(At("a/b"));
    std::filesystem::permissions(folder_.path(), perms::owner_all);
    EXPECT_THAT(Message(status), HasSubstr("cannot open the directory " + folder_.path()));
  });
}

TEST_F(FileTest, ListsRemovesAndRenames) {
  for (const char* name : {"c", "a", "b"}) ASSERT_TRUE(MakeDirectories(At(name) + "/below").ok());
  EXPECT_THAT(Names(), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(RenamePath(At("a"), At("d")).ok());
  EXPECT_THAT(Message(RenamePath(At("a"), At("e"))), HasSubstr("cannot rename " + At("a") + " to " + At("e")));
  EXPECT_THAT(Message(RemoveFile(At("d"))), HasSubstr("cannot remove " + At("d")));
  EXPECT_TRUE(RemoveFile(At("none")).ok());
  Spill(At("d/file"), "");
  EXPECT_TRUE(RemoveFile(At("d/file")).ok());
  EXPECT_FALSE(PathExists(At("d/file")).value());
  EXPECT_TRUE(RemoveTree(At("d")).ok());
  EXPECT_TRUE(RemoveTree(At("none")).ok());
  EXPECT_THAT(Names(), ElementsAre("b", "c"));
  EXPECT_THAT(Message(ListDirectory(At("none")).status()), HasSubstr("cannot list the directory " + At("none")));
}

TEST(PathTest, Parts) {
  EXPECT_EQ(ParentDirectory("a/b.json"), "a");
  EXPECT_EQ(ParentDirectory("a/b//"), "a");
  EXPECT_EQ(ParentDirectory("b"), ".");
  EXPECT_EQ(ParentDirectory("/b"), "/");
  EXPECT_EQ(ParentDirectory("/"), "/");
}

// A second SIGTERM while the last checkpoint is being saved must not make the save fail.
TEST_F(FileTest, SignalsDoNotEndASync) {
  syncs_to_interrupt = 3;
  EXPECT_EQ(WriteFile(At("a"), "text"), absl::OkStatus());
  EXPECT_EQ(syncs_to_interrupt, 0);
  syncs_to_interrupt = 3;
  EXPECT_EQ(SyncDirectory(folder_.path()), absl::OkStatus());
  EXPECT_EQ(syncs_to_interrupt, 0);
  EXPECT_EQ(Slurp(At("a")), "text");
}

TEST_F(FileTest, LinesAreReadAndFilesCopiedBlockByBlock) {
  const std::string block(static_cast<size_t>(kStreamBlockBytes), 'x');
  for (const std::string& content :
       {std::string(), std::string("\n"), std::string("a"), std::string("a\n\nb\n"), block, block + "\n",
        block.substr(1) + "\n" + "b\n", block.substr(2) + "\nb\nc", "\n" + block + block + block + "y\n\nz\n"}) {
    Spill(At("lines"), content);
    const auto file = FileReader::Open(At("lines"));
    ASSERT_TRUE(file.ok()) << file.status();
    std::string read;
    LineReader lines(*file);
    for (absl::StatusOr<bool> some; (some = lines.Next()).value();) {
      read += lines.line();
      if (lines.is_whole()) read += '\n';
      EXPECT_EQ(lines.line().find('\n'), std::string_view::npos);
      EXPECT_EQ(lines.end(), static_cast<int64_t>(read.size()));
      EXPECT_TRUE(lines.is_whole() || read.size() == content.size());
    }
    EXPECT_TRUE(read == content) << content.size();
    auto copy = AtomicFile::Create(At("copy"));
    ASSERT_TRUE(copy.ok()) << copy.status();
    EXPECT_EQ(AppendFileTo(*copy, *file), absl::OkStatus());
    EXPECT_EQ(copy->Commit(), absl::OkStatus());
    EXPECT_TRUE(Slurp(At("copy")) == content) << content.size();
  }
}

}  // namespace
}  // namespace angel_ptm
