// prepare over an earlier dataset. It is killed at every single change that it makes to the file system, or the disk is
// full, or fails once, from that change on. The folder always holds one of the two datasets, whole.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>

#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/prepare.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_folder.h"

namespace {

enum class Fault { kNone, kKilled, kDiskFull, kFailsOnce };
// The fault that the next changes to the file system meet, counted down. It applies to the whole process, which runs
// one thread while it is set.
Fault fault = Fault::kNone;
int64_t changes_left = 0;
int64_t changes_seen = 0;
constexpr int kKilledCode = 77;

// Called before each change. Returns an error number to fail with, or 0. `grows`: the change needs room on the disk.
int Meet(bool grows) {
  ++changes_seen;
  if (fault == Fault::kNone) return 0;
  const bool reached = --changes_left < 0, now = changes_left == -1;
  if (fault == Fault::kKilled && now) _exit(kKilledCode);
  if (fault == Fault::kDiskFull && reached && grows) return ENOSPC;
  if (fault == Fault::kFailsOnce && now) return EIO;
  return 0;
}

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

// The calls by which our files change, overriding the C library's.
extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if ((flags & (O_CREAT | O_TRUNC)) != 0) {
    if (const int error = Meet(true); error != 0) return errno = error, -1;
  }
  return Real<int(const char*, int, ...)>("open")(path, flags, mode);
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  if (const int error = Meet(true); error != 0) return errno = error, -1;
  return Real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(fd, data, bytes, offset);
}

// A killed process leaves what it has written, so waiting for the disk would only take time.
int fsync(int) {
  if (const int error = Meet(true); error != 0) return errno = error, -1;
  return 0;
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (const int error = Meet(true); error != 0) return errno = error, -1;
  return Real<int(const char*, mode_t)>("mkdir")(path, mode);
}

int rename(const char* from, const char* to) noexcept {
  if (const int error = Meet(false); error != 0) return errno = error, -1;
  return Real<int(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  if (const int error = Meet(false); error != 0) return errno = error, -1;
  return Real<int(const char*)>("unlink")(path);
}

// std::filesystem::remove_all uses this call.
int unlinkat(int folder, const char* path, int flags) noexcept {
  if (const int error = Meet(false); error != 0) return errno = error, -1;
  return Real<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}

}  // extern "C"

namespace angel_ptm {
namespace {

using testing::ElementsAre;

class PrepareCrashTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * 37 % 101) + " of a small text\n\n";
    Spill(folder_ / "text/a.txt", text);
    ASSERT_TRUE(PrepareWith(kOldSeed).ok());
  }
  absl::Status PrepareWith(uint64_t seed) {
    return Prepare({.inputs = {folder_ / "text"},
                    .output = output_,
                    .vocabulary_size = 270,
                    .validation_fraction = 0.2,
                    .seed = seed,
                    .threads = 1})
        .status();
  }
  // Prepares the new dataset in a process that meets `kind` at change number `at`. Returns whether it got that far.
  bool Meets(Fault kind, int64_t at, int* exit_code) {
    const pid_t child = fork();
    if (child == 0) {
      fault = kind;
      changes_left = at;
      const bool ok = PrepareWith(kNewSeed).ok();
      _exit(changes_left >= 0 ? 2 : ok ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    *exit_code = WEXITSTATUS(status);
    return *exit_code != 2;
  }
  // The seed, which tells the two datasets apart; 0 if the folder holds neither.
  uint64_t WhichIsThere() {
    const auto dataset = OpenTextDataset(output_, 32);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? dataset->manifest.seed : 0;
  }
  // Tries all faults of a kind, restoring the earlier dataset after each. Returns how many there were.
  int64_t TryAll(Fault kind) {
    int64_t at = 0;
    bool switched = false;
    int code = 0;
    for (; Meets(kind, at, &code); ++at) {
      const uint64_t there = WhichIsThere();
      EXPECT_TRUE(there == kOldSeed || there == kNewSeed) << "at change " << at;
      if (kind == Fault::kKilled) {
        EXPECT_EQ(code, kKilledCode);
        EXPECT_TRUE(!switched || there == kNewSeed) << "at change " << at;
      }
      switched = there == kNewSeed;
      // A successful call leaves the new dataset; the next call completes or removes what is half done.
      EXPECT_TRUE(code != 0 || there == kNewSeed) << "at change " << at;
      EXPECT_TRUE(PrepareWith(kOldSeed).ok());
      EXPECT_EQ(WhichIsThere(), kOldSeed);
      EXPECT_THAT(Names(), ElementsAre("dataset.json", "tokenizer.json", "tokenizer_config.json", "train.tokens",
                                       "validation.tokens"));
      if (HasFailure()) break;
    }
    EXPECT_EQ(WhichIsThere(), kNewSeed);  // the last call met no fault
    return at;
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(output_)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  static constexpr uint64_t kOldSeed = 1, kNewSeed = 2;
  const TemporaryFolder folder_;
  const std::string output_ = folder_ / "set";
};

TEST_F(PrepareCrashTest, KilledAtAnyChange) { EXPECT_GT(TryAll(Fault::kKilled), 30); }

TEST_F(PrepareCrashTest, ADiskThatIsFullFromAnyChangeOn) { EXPECT_GT(TryAll(Fault::kDiskFull), 30); }

TEST_F(PrepareCrashTest, AnyChangeFailsOnce) { EXPECT_GT(TryAll(Fault::kFailsOnce), 30); }

TEST_F(PrepareCrashTest, ASecondProcessIsRefused) {
  const auto first = UnfinishedDataset::Create(output_);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(PrepareWith(kNewSeed).message(),
            "another angel-ptm prepare is writing to " + output_ + ": wait for it, or choose another folder");
  EXPECT_EQ(WhichIsThere(), kOldSeed);
}

}  // namespace
}  // namespace angel_ptm
