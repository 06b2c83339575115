// FileStore on real files: reads return what was written, nothing is left behind, and every refusal is one clear
// sentence.
#include "angel_ptm/memory/file_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "angel_ptm/memory/calls_file.h"
#include "angel_ptm/memory/scratch_file.h"
#include "angel_ptm/memory/uring_file.h"
#include "tests/memory/aligned_bytes.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

constexpr int64_t kBlock = 4096;

ScratchFile::Options ScratchOptions(const std::string& directory, int64_t bytes) {
  return {.directory = directory, .name = "pages of rank 3", .bytes = bytes, .allow_buffered = true};
}

FileStoreOptions Options(const std::string& directory, int64_t blocks) {
  return {.directory = directory,
          .name = "pages of rank 3",
          .bytes = blocks * kBlock,
          .block_bytes = kBlock,
          .allow_buffered = true,
          .queue_depth = 4,
          .request_bytes = 3 * kBlock};
}

// Creates the device under a store.
using Engine = std::function<std::unique_ptr<BlockFile>(ScratchFile file, int queue_depth)>;

struct NamedEngine {
  const char* name;
  Engine make;
};

class FileStoreTest : public testing::TestWithParam<NamedEngine> {
 protected:
  std::unique_ptr<FileStore> Make(const FileStoreOptions& options) const {
    ScratchFile file = OrDie(ScratchFile::Create(ScratchOptions(options.directory, options.bytes)));
    return FileStore::CreateOn(options, GetParam().make(std::move(file), options.queue_depth));
  }
  TemporaryFolder folder_;
};

TEST_P(FileStoreTest, ReadsBackWhatWasWrittenLast) {
  constexpr int64_t kBlocks = 64;
  const auto store = Make(Options(folder_.path(), kBlocks));
  AlignedBytes written(kBlocks * kBlock), read(kBlocks * kBlock);
  written.Fill(0, written.bytes(), 1);
  ASSERT_EQ(store->Write(0, written.data(), written.bytes()), absl::OkStatus());
  // Fewer blocks than one request holds, and a number that fills part of the queue.
  written.Fill(7 * kBlock, 2 * kBlock, 2);
  ASSERT_EQ(store->Write(7 * kBlock, written.data() + 7 * kBlock, 2 * kBlock), absl::OkStatus());
  written.Fill(20 * kBlock, 10 * kBlock, 3);
  ASSERT_EQ(store->Write(20 * kBlock, written.data() + 20 * kBlock, 10 * kBlock), absl::OkStatus());
  ASSERT_EQ(store->Read(0, read.data(), read.bytes()), absl::OkStatus());
  EXPECT_TRUE(read.Equals(written));
  ASSERT_EQ(store->Read(63 * kBlock, read.data(), kBlock), absl::OkStatus());
  EXPECT_EQ(std::memcmp(read.data(), written.data() + 63 * kBlock, kBlock), 0);
  EXPECT_EQ(store->totals(FileDirection::kWrite).bytes, 76 * kBlock);
  EXPECT_EQ(store->totals(FileDirection::kRead).bytes, 65 * kBlock);
  EXPECT_GT(store->totals(FileDirection::kRead).seconds, 0);
  EXPECT_EQ(store->totals(FileDirection::kRead).retries, 0);
}

TEST_P(FileStoreTest, ABlockNeverWrittenIsAnError) {
  const auto store = Make(Options(folder_.path(), 8));
  AlignedBytes bytes(3 * kBlock);
  ASSERT_EQ(store->Write(0, bytes.data(), 2 * kBlock), absl::OkStatus());
  const absl::Status status = store->Read(0, bytes.data(), 3 * kBlock);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "cannot read byte 8192 of pages of rank 3 in " + folder_.path() +
                                  ": block 2 was never written, or its last write failed");
}

TEST_P(FileStoreTest, OneReadsWhileAnotherWrites) {
  constexpr int64_t kBlocks = 96, kHalf = kBlocks / 2 * kBlock;
  const auto store = Make(Options(folder_.path(), kBlocks));
  AlignedBytes first(kHalf), second(kHalf), read(kHalf);
  first.Fill(0, kHalf, 1);
  ASSERT_EQ(store->Write(0, first.data(), kHalf), absl::OkStatus());
  for (uint64_t round = 2; round < 12; ++round) {
    second.Fill(0, kHalf, round);
    const int64_t to = round % 2 == 0 ? kHalf : 0;
    std::thread writer([&] { EXPECT_EQ(store->Write(to, second.data(), kHalf), absl::OkStatus()); });
    EXPECT_EQ(store->Read(kHalf - to, read.data(), kHalf), absl::OkStatus());
    writer.join();
    EXPECT_TRUE(read.Equals(first)) << round;
    std::swap(first, second);
  }
}

TEST_P(FileStoreTest, TwoStoresOfOneNameInOneDirectoryDoNotMeet) {
  const FileStoreOptions options = Options(folder_.path(), 4);
  const auto a = Make(options), b = Make(options);
  AlignedBytes of_a(4 * kBlock), of_b(4 * kBlock), read(4 * kBlock);
  of_a.Fill(0, of_a.bytes(), 1);
  of_b.Fill(0, of_b.bytes(), 2);
  ASSERT_EQ(a->Write(0, of_a.data(), of_a.bytes()), absl::OkStatus());
  ASSERT_EQ(b->Write(0, of_b.data(), of_b.bytes()), absl::OkStatus());
  ASSERT_EQ(a->Read(0, read.data(), read.bytes()), absl::OkStatus());
  EXPECT_TRUE(read.Equals(of_a));
  ASSERT_EQ(b->Read(0, read.data(), read.bytes()), absl::OkStatus());
  EXPECT_TRUE(read.Equals(of_b));
}

TEST_P(FileStoreTest, ARegisteredBufferAndOtherMemoryBothServe) {
  const auto store = Make(Options(folder_.path(), 16));
  AlignedBytes registered(16 * kBlock), other(16 * kBlock);
  // Exceeding the limit on locked memory is not an error of the store.
  const absl::Status status = store->RegisterBuffer(registered.data(), registered.bytes());
  EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
  registered.Fill(0, registered.bytes(), 5);
  ASSERT_EQ(store->Write(0, registered.data(), registered.bytes()), absl::OkStatus());
  ASSERT_EQ(store->Read(0, other.data(), other.bytes()), absl::OkStatus());
  EXPECT_TRUE(other.Equals(registered));
  registered.Fill(0, registered.bytes(), 6);
  ASSERT_EQ(store->Read(0, registered.data(), registered.bytes()), absl::OkStatus());
  EXPECT_TRUE(other.Equals(registered));
}

using FileStoreDeathTest = FileStoreTest;

TEST_P(FileStoreDeathTest, RefusesWhatOnlyABugAsks) {
  AlignedBytes bytes(4 * kBlock);
  const auto make = [&] { return Make(Options(folder_.path(), 4)); };
  EXPECT_DEATH((void)make()->Write(512, bytes.data(), kBlock), "offset 512 of pages of rank 3");
  EXPECT_DEATH((void)make()->Write(0, bytes.data(), kBlock + 512), "4608 bytes of pages of rank 3");
  EXPECT_DEATH((void)make()->Write(0, bytes.data() + 64, kBlock), "memory for pages of rank 3");
  EXPECT_DEATH((void)make()->Read(kBlock, bytes.data(), 4 * kBlock), "which has 16384");
}

std::unique_ptr<BlockFile> MakeCalls(ScratchFile file, int depth) { return MakeCallsFile(std::move(file), depth); }
std::unique_ptr<BlockFile> MakeUring(ScratchFile file, int depth) { return OrDie(MakeUringFile(file, depth)); }

// The engines that this build and this kernel have.
std::vector<NamedEngine> Engines() {
  std::vector<NamedEngine> engines = {{"calls", MakeCalls}};
  const TemporaryFolder folder;
  ScratchFile file = OrDie(ScratchFile::Create(ScratchOptions(folder.path(), kBlock)));
  if (MakeUringFile(file, 4).ok()) engines.push_back({"uring", MakeUring});
  return engines;
}

std::string EngineName(const testing::TestParamInfo<NamedEngine>& engine) { return engine.param.name; }

INSTANTIATE_TEST_SUITE_P(, FileStoreTest, testing::ValuesIn(Engines()), EngineName);
INSTANTIATE_TEST_SUITE_P(, FileStoreDeathTest, testing::ValuesIn(Engines()), EngineName);

// Makes the kernel refuse io_uring to this process, as containers do.
void ForbidUring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {std::size(program), program};
  APTM_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

// Writes and reads a few pages, prints the store's description and exits.
[[noreturn]] void UseAndTell(FileStore& store, const AlignedBytes& written) {
  AlignedBytes read(written.bytes());
  OrDie(store.Write(0, written.data(), written.bytes()));
  OrDie(store.Read(0, read.data(), read.bytes()));
  APTM_CHECK(read.Equals(written));
  std::cerr << store.description();
  std::exit(0);
}

TEST(FileStoreProcessTest, UsesPlainCallsWhereTheKernelRefusesUring) {
  const TemporaryFolder folder;
  const auto run = [&] {
    AlignedBytes bytes(16 * kBlock);
    bytes.Fill(0, bytes.bytes(), 1);
    ForbidUring();
    const auto store = OrDie(FileStore::Create(Options(folder.path(), 16)));
    UseAndTell(*store, bytes);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0),
              "pread and pwrite in 4 threads each \\((io_uring: Operation not permitted|built without io_uring)\\)");
}

// The limit on locked memory applies only to processes without the right to exceed it.
void GiveUpRights() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  APTM_CHECK(syscall(SYS_capset, &header, none) == 0);
}

TEST(FileStoreProcessTest, WorksWhereTheLimitOnLockedMemoryForbidsRegistering) {
  if (Engines().size() == 1) GTEST_SKIP() << "no io_uring here";
  const TemporaryFolder folder;
  const auto run = [&] {
    const rlimit limit = {1 << 20, 1 << 20};
    APTM_CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    GiveUpRights();
    AlignedBytes bytes(1024 * kBlock);
    bytes.Fill(0, bytes.bytes(), 1);
    const auto store = OrDie(FileStore::Create(Options(folder.path(), 1024)));
    std::cerr << store->RegisterBuffer(bytes.data(), bytes.bytes()).message() << "; ";
    UseAndTell(*store, bytes);
  };
  // The limit covers all memory that the user has locked: another program may have left too little even for a ring.
  EXPECT_EXIT(run(), testing::ExitedWithCode(0),
              "cannot register 4.00 MiB of memory for reads and again for writes of files: the limit on locked memory "
              "\\(ulimit -l\\) is 1.00 MiB; io_uring, |io_uring: Cannot allocate memory");
}

std::string ErrorOf(const ScratchFile::Options& options, absl::StatusCode code) {
  const auto file = ScratchFile::Create(options);
  EXPECT_EQ(file.status().code(), code) << file.status();
  return std::string(file.status().message());
}

int64_t FreeBytes(const std::string& directory) {
  struct statfs room;
  EXPECT_EQ(statfs(directory.c_str(), &room), 0);
  return static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_bsize);
}

class ScratchFileTest : public testing::TestWithParam<bool> {
 protected:
  TemporaryFolder folder_;
};

TEST_P(ScratchFileTest, HasItsRoomAndNoName) {
  ScratchFile::Options options = ScratchOptions(folder_.path(), int64_t{64} << 20);
  options.use_name = GetParam();
  const auto file = ScratchFile::Create(options);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  struct stat info;
  ASSERT_EQ(fstat(file->fd(), &info), 0);
  EXPECT_EQ(info.st_size, options.bytes);
  EXPECT_GE(info.st_blocks * 512, options.bytes);
  EXPECT_EQ(info.st_nlink, 0u);
}

INSTANTIATE_TEST_SUITE_P(, ScratchFileTest, testing::Values(false, true),
                         [](const auto& test) { return test.param ? "named_at_first" : "unnamed"; });

TEST(ScratchFileErrorsTest, SayWhatIsWrongWithTheDirectory) {
  const TemporaryFolder folder;
  Spill(folder / "file", "x");
  EXPECT_EQ(ErrorOf(ScratchOptions(folder / "missing", kBlock), absl::StatusCode::kNotFound),
            "cannot keep pages of rank 3 in " + folder / "missing" + ": there is no such directory");
  EXPECT_EQ(ErrorOf(ScratchOptions(folder / "file", kBlock), absl::StatusCode::kNotFound),
            "cannot keep pages of rank 3 in " + folder / "file" + ": it is not a directory");
  EXPECT_EQ(ErrorOf(ScratchOptions("/proc", kBlock), absl::StatusCode::kFailedPrecondition),
            "cannot keep pages of rank 3 in /proc: its file system takes no new files");
}

TEST(ScratchFileErrorsTest, SayThatFilesMayNotBeMade) {
  const TemporaryFolder folder;
  const auto tell = [&] {
    std::cerr << ScratchFile::Create(ScratchOptions(folder.path(), kBlock)).status().message();
    std::exit(0);
  };
  const auto in_a_closed_folder = [&] {
    APTM_CHECK(chmod(folder.path().c_str(), 0500) == 0);
    GiveUpRights();
    tell();
  };
  EXPECT_EXIT(in_a_closed_folder(), testing::ExitedWithCode(0), "no permission to make files there");
  // Not every machine allows a test to mount.
  const auto on_a_read_only_mount = [&] {
    const char* const path = folder.path().c_str();
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(path, path, nullptr, MS_BIND, nullptr) != 0 ||
        mount("", path, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) {
      std::cerr << "no mounts here";
      std::exit(0);
    }
    tell();
  };
  chmod(folder.path().c_str(), 0700);
  EXPECT_EXIT(on_a_read_only_mount(), testing::ExitedWithCode(0), "the file system is read-only|no mounts here");
}

TEST(ScratchFileErrorsTest, SayHowMuchRoomThereIs) {
  const TemporaryFolder folder;
  const int64_t wanted = FreeBytes(folder.path()) / kBlock * kBlock + (int64_t{64} << 30);
  EXPECT_THAT(ErrorOf(ScratchOptions(folder.path(), wanted), absl::StatusCode::kResourceExhausted),
              testing::MatchesRegex("cannot keep pages of rank 3 in .*: " + std::to_string(wanted) +
                                    " bytes \\(.*iB\\) wanted, [0-9]+ \\(.*\\) available"));
  const FileSizeLimit limit(1 << 20);
  EXPECT_THAT(ErrorOf(ScratchOptions(folder.path(), 2 << 20), absl::StatusCode::kResourceExhausted),
              HasSubstr("2097152 bytes (2.00 MiB) wanted, 1048576 (1.00 MiB) allowed by the limit on file sizes"));
}

TEST(ScratchFileErrorsTest, TmpfsServesOnlyIfBufferedIoIsAllowed) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no tmpfs at /dev/shm";
  ScratchFile::Options options = ScratchOptions("/dev/shm", kBlock);
  const auto file = ScratchFile::Create(options);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(file->direct());
  options.allow_buffered = false;
  EXPECT_EQ(ErrorOf(options, absl::StatusCode::kFailedPrecondition),
            "cannot keep pages of rank 3 in /dev/shm: it is on tmpfs, whose files take memory and know no direct I/O "
            "(O_DIRECT); choose a directory on a drive or allow buffered I/O");
  const auto store = FileStore::Create({.directory = "/dev/shm", .name = "x", .bytes = kBlock, .block_bytes = kBlock});
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(FileStoreCreateTest, TellsHowItMovesBytes) {
  const TemporaryFolder folder;
  const auto store = FileStore::Create(Options(folder.path(), 4));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_THAT((*store)->description(), testing::AnyOf(HasSubstr("direct I/O"), HasSubstr("through the page cache")));
  EXPECT_EQ((*store)->bytes(), 4 * kBlock);
}

}  // namespace
}  // namespace angel_ptm
