// What a checkpoint survives or reports: kills, full disks, failing ranks, and any damaged byte.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "comm/forwarding_communicator.h"
#include "tests/base/child_process.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/interrupted_sync.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Runs fn in a child process, passing it the write end of a pipe, and returns what it wrote. The child never returns
// into the test.
template <typename Fn>
std::string OutputOfChild(Fn&& fn, int* exit_code) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    _exit(fn(ends[1]));
  }
  close(ends[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) output.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return output;
}

bool WriteText(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY);
  const bool written = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) close(fd);
  return written;
}

void Send(int pipe_end, const std::string& text) {
  APTM_CHECK(write(pipe_end, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

// Large enough that a save takes many writes, so that kills hit every stage.
Graph KillGraph() { return MakeGraph({{"a", {{150, 1000}}}, {"b", {{35, 1000}}}}); }

// A child process that saves one step after the other, or the same step again and again, and reports each until it is
// killed.
class SavingChild {
 public:
  SavingChild(const CheckpointOptions& options, const Graph& graph, int64_t first_step, bool same_step = false) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      if (same_step && !FailSystemCall(SYS_renameat2, 4, RENAME_EXCHANGE, EINVAL)) _exit(3);
      for (int64_t step = first_step;; step += same_step ? 0 : 1) {
        const auto results =
            StatusOfRanks(2, [&](Communicator& comm) { return Save(options, graph, step, comm).status(); });
        if (!results[0].ok()) _exit(1);
        if (write(ends[1], &step, sizeof(step)) != sizeof(step)) _exit(2);
      }
    }
    close(ends[1]);
    reports_ = ends[0];
  }
  ~SavingChild() {
    close(reports_);
    if (pid_ <= 0) return;  // killed, or never started
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // Waits for the next report; false if the child has ended.
  bool NextReport(int64_t* step) { return read(reports_, step, sizeof(*step)) == sizeof(*step); }
  void Kill() {
    kill(pid_, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = 0;
  int reports_ = -1;
};

TEST(CheckpointFaultsTest, AKillAtAnyInstantLeavesTheNewestCompleteOneReadable) {
  const TemporaryFolder dir;
  const Graph graph = KillGraph();
  const CheckpointOptions options{.directory = dir.path(), .keep_last = 2};
  std::mt19937 random(7);
  int64_t saved = 0;
  int interrupted = 0;
  double save_microseconds = 0;
  // On a slow machine a save is mostly waiting, so few kills hit a write; repeated until one does.
  for (int round = 0; round < 15 || (interrupted == 0 && round < 200); ++round) {
    SavingChild child(options, graph, saved + 1);
    // Waits for at least one whole save in the first round and for none to two later, then for part of another.
    for (int64_t wait = round == 0 ? 2 : static_cast<int64_t>(random() % 3); wait > 0; --wait) {
      const auto begin = std::chrono::steady_clock::now();
      ASSERT_TRUE(child.NextReport(&saved));
      save_microseconds = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    }
    usleep(static_cast<useconds_t>(save_microseconds * static_cast<double>(random() % 1000) / 1000));
    child.Kill();
    while (child.NextReport(&saved)) {
    }
    for (const std::string& name : NamesIn(dir.path())) interrupted += name.ends_with(".tmp");

    const auto latest = FindLatestCheckpoint(dir.path());
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->warning, "");
    const auto reader = CheckpointReader::Open(latest->path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    // The step reported last, or the next one if the kill came between its rename and its report.
    EXPECT_GE(reader->manifest().step, saved);
    EXPECT_LE(reader->manifest().step, saved + 1);
    saved = reader->manifest().step;
    const absl::Status state = ExpectState(*reader, graph, saved, 3);
    ASSERT_TRUE(state.ok()) << state;
  }
  EXPECT_GT(interrupted, 0) << "no kill came in the middle of a save";
}

TEST(CheckpointFaultsTest, AKillWhileReplacingWithoutExchangeLeavesOneOfTheTwo) {
  const TemporaryFolder dir;
  const Graph graph = MakeGraph({{"a", {{1000}}}});
  std::mt19937 random(8);
  for (int round = 0; round < 20; ++round) {
    SavingChild child({.directory = dir.path()}, graph, /*first_step=*/5, /*same_step=*/true);
    int64_t saved = 0;
    if (round == 0 && (!child.NextReport(&saved) || !child.NextReport(&saved))) {
      GTEST_SKIP() << "system calls cannot be made to fail here";
    }
    usleep(static_cast<useconds_t>(random() % 20000));
    child.Kill();
    const auto latest = FindLatestCheckpoint(dir.path());
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->warning, "");
    const auto reader = CheckpointReader::Open(latest->path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    const absl::Status state = ExpectState(*reader, graph, 5, 1);
    ASSERT_TRUE(state.ok()) << state;
  }
}

// Where mounting a full disk is not allowed, the process's file size limit stands in for it.
TEST(CheckpointFaultsTest, AFullDiskIsOneErrorOnAllRanksAndTrainingGoesOn) {
  const TemporaryFolder dir;
  const Graph graph = KillGraph();
  const CheckpointOptions options{.directory = dir.path()};
  int code = 0;
  const std::string output = OutputOfChild(
      [&](int out) {
        const auto save = [&](int64_t step) {
          return StatusOfRanks(2, [&](Communicator& comm) { return Save(options, graph, step, comm).status(); });
        };
        if (!save(1)[0].ok()) return 1;
        std::vector<absl::Status> failed;
        {
          const FileSizeLimit limit(1 << 19);
          failed = save(2);
        }
        if (failed[0] != failed[1]) return 2;
        Send(out, failed[0].ToString());
        return save(3)[0].ok() ? 0 : 3;
      },
      &code);
  EXPECT_EQ(code, 0);
  EXPECT_THAT(output, HasSubstr("RESOURCE_EXHAUSTED: the checkpoint of step 2 was not saved: rank 0: cannot write"));
  EXPECT_THAT(output, HasSubstr("(and 1 more ranks failed); earlier checkpoints are intact"));
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000001", "step-00000003"));
  for (int64_t step : {1, 3}) {
    const auto reader = CheckpointReader::Open(dir / ("step-0000000" + std::to_string(step)));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_TRUE(ExpectState(*reader, graph, step, 1).ok());
  }
}

TEST(CheckpointFaultsTest, ARealFullDisk) {
  const TemporaryFolder dir;
  const Graph graph = KillGraph();
  int code = 0;
  const std::string output = OutputOfChild(
      [&](int out) {
        // A private mount that disappears with this process; without root, in a user namespace of its own.
        const uid_t user = geteuid();
        const gid_t group = getegid();
        if (unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
        if (user != 0 && (!WriteText("/proc/self/setgroups", "deny") ||
                          !WriteText("/proc/self/uid_map", absl::StrCat("0 ", user, " 1")) ||
                          !WriteText("/proc/self/gid_map", absl::StrCat("0 ", group, " 1")))) {
          return 77;
        }
        if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
        if (mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=3500k") != 0) return 77;
        const auto save = [&](int64_t step) {
          return StatusOfRanks(
              2, [&](Communicator& comm) { return Save({.directory = dir / "c"}, graph, step, comm).status(); });
        };
        if (!save(1)[0].ok()) return 1;  // 2.2 MB
        const std::vector<absl::Status> failed = save(2);
        if (failed[0] != failed[1]) return 2;
        Send(out, failed[0].ToString());
        if (NamesIn(dir / "c") != std::vector<std::string>{"step-00000001"}) return 3;
        const auto reader = CheckpointReader::Open(dir / "c/step-00000001");
        return reader.ok() && ExpectState(*reader, graph, 1, 1).ok() ? 0 : 4;
      },
      &code);
  if (code == 77) GTEST_SKIP() << "this user may not mount a tmpfs; the file size limit test covers the same code";
  EXPECT_EQ(code, 0);
  EXPECT_THAT(output, HasSubstr("RESOURCE_EXHAUSTED: the checkpoint of step 2 was not saved"));
  EXPECT_THAT(output, HasSubstr("No space left on device"));
}

// Puts a file in one rank's way as soon as rank 0 has made the temporary directory.
class ObstructedCommunicator : public ForwardingCommunicator {
 public:
  ObstructedCommunicator(Communicator& inner, std::string obstacle)
      : ForwardingCommunicator(inner), obstacle_(std::move(obstacle)) {}
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    RETURN_IF_ERROR(ForwardingCommunicator::Broadcast(dst, root, tag));
    if (!obstacle_.empty()) Spill(std::exchange(obstacle_, ""), "in the way");
    return absl::OkStatus();
  }

 private:
  std::string obstacle_;
};

// While a run saves, signals that ask it to end arrive from a launcher and from a scheduler, seconds apart.
TEST(CheckpointFaultsTest, SignalsWhileFilesAreSyncedDoNotFailASave) {
  const TemporaryFolder dir;
  const Graph graph = SmallGraph();
  constexpr int kInterrupted = 100;
  syncs_to_interrupt = kInterrupted;
  RunRanks(2, [&](Communicator& comm) { return Save({.directory = dir.path()}, graph, 1, comm).status(); });
  EXPECT_LT(syncs_to_interrupt.exchange(0), kInterrupted);
  const auto reader = CheckpointReader::Open(dir / "step-00000001");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->Verify(), absl::OkStatus());
}

TEST(CheckpointFaultsTest, OneRanksFailureIsEveryRanksError) {
  const TemporaryFolder dir;
  const Graph graph = SmallGraph();
  const auto results = StatusOfRanks(3, [&](Communicator& inner) {
    ObstructedCommunicator comm(
        inner, inner.rank() == 1 ? dir / "step-00000004.tmp/rank-00001-of-00003.safetensors" : std::string());
    return Save({.directory = dir.path()}, graph, 4, comm).status();
  });
  for (const absl::Status& status : results) {
    EXPECT_EQ(status, results[0]);
    EXPECT_THAT(std::string(status.message()), HasSubstr("step 4 was not saved: rank 1: cannot create"));
  }
  EXPECT_TRUE(NamesIn(dir.path()).empty());
}

// Does everything that a resuming run would do.
absl::Status OpenAndReadAll(const std::string& path, const Graph& graph) {
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(path));
  RETURN_IF_ERROR(reader.Fit(*graph.table));
  return reader.Verify();
}

class DamageTest : public ::testing::Test {
 protected:
  DamageTest() : graph_(MakeGraph({{"a", {{1500}}}, {"b", {{20}, {30}}}})) {
    const CheckpointOptions options{.directory = dir_.path(), .files = {{"tokenizer.json", "{\"some\": \"text\"}"}}};
    RunRanks(2, [&](Communicator& comm) { return Save(options, graph_, 1, comm).status(); });
    path_ = dir_ / "step-00000001";
    files_ = NamesIn(path_);
    EXPECT_EQ(files_.size(), 4u);
    EXPECT_TRUE(OpenAndReadAll(path_, graph_).ok()) << OpenAndReadAll(path_, graph_);
  }
  // Replaces this file of the checkpoint with `bytes` and fails unless the checkpoint is refused with a message that
  // names it.
  void ExpectDamageIsSeen(const std::string& file, const std::string& bytes, const std::string& what) {
    const std::string original = Slurp(path_ + "/" + file);
    Spill(path_ + "/" + file, bytes);
    const absl::Status status = OpenAndReadAll(path_, graph_);
    ASSERT_FALSE(status.ok()) << file << ": " << what;
    const std::string message(status.message());
    ASSERT_THAT(message, HasSubstr(file)) << what;
    ASSERT_THAT(message, HasSubstr("damaged")) << what;
    Spill(path_ + "/" + file, original);
  }
  // Writes a changed manifest with a correct checksum.
  void WriteManifest(std::string text) {
    const size_t body = text.find('\n') + 1;
    text.replace(14, 16, ChecksumText(Xxh3(std::string_view(text).substr(body))));
    Spill(path_ + "/manifest.json", text);
  }

  const TemporaryFolder dir_;
  const Graph graph_;
  std::string path_;
  std::vector<std::string> files_;
};

TEST_F(DamageTest, EveryFlippedBitIsSeen) {
  std::mt19937 random(3);
  for (const std::string& file : files_) {
    const std::string bytes = Slurp(path_ + "/" + file);
    // Changes a random bit in every byte of the beginning, then in a sample of bytes.
    for (size_t at = 0; at < bytes.size(); at += at < 100 ? 1 : 1 + random() % 300) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
      ExpectDamageIsSeen(file, flipped, "bit flipped in byte " + std::to_string(at));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DamageTest, EveryTruncationAndExtensionIsSeen) {
  std::mt19937 random(4);
  for (const std::string& file : files_) {
    const std::string bytes = Slurp(path_ + "/" + file);
    for (size_t n = 0; n < bytes.size(); n += 1 + random() % 400) {
      ExpectDamageIsSeen(file, bytes.substr(0, n), "cut to " + std::to_string(n));
      if (HasFatalFailure()) return;
    }
    ExpectDamageIsSeen(file, bytes + '\0', "a byte longer");
  }
}

TEST_F(DamageTest, SwappedFilesAreSeen) {
  ExpectDamageIsSeen("rank-00000-of-00002.safetensors", Slurp(path_ + "/rank-00001-of-00002.safetensors"), "swap");
}

TEST_F(DamageTest, AMissingFileIsSeen) {
  for (const std::string& file : files_) {
    RenamePath(path_ + "/" + file, dir_ / "aside").IgnoreError();
    const absl::Status status = OpenAndReadAll(path_, graph_);
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
    RenamePath(dir_ / "aside", path_ + "/" + file).IgnoreError();
  }
  EXPECT_TRUE(OpenAndReadAll(path_, graph_).ok());
}

TEST_F(DamageTest, ANewerVersionSaysSo) {
  std::string text = Slurp(path_ + "/manifest.json");
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 3");
  WriteManifest(text);
  const absl::Status status = CheckpointReader::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("format version 3, this program reads versions up to 2"));
}

TEST_F(DamageTest, ShorterSlicesThanTheFilesAreSeen) {
  std::string text = Slurp(path_ + "/manifest.json");
  text.replace(text.find("\"slice_elements\": 2048"), 22, "\"slice_elements\": 1024");
  WriteManifest(text);
  EXPECT_THAT(std::string(OpenAndReadAll(path_, graph_).message()), HasSubstr("lacks (part of) tensor parameters/a"));
}

// Numbers that would overflow or ask for more memory than there is, under a correct checksum.
TEST_F(DamageTest, NumbersOutOfRangeAreRefused) {
  const std::string good = Slurp(path_ + "/manifest.json");
  const auto message = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    WriteManifest(text.replace(at, from.size(), to));
    const absl::Status status = OpenAndReadAll(path_, graph_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(message("\"chunk_elements\": 1048576", "\"chunk_elements\": 9223372036854775807"),
              HasSubstr("chunk_elements should be from 1 to 268435456, got 9223372036854775807"));
  EXPECT_THAT(message("\"chunk_elements\": 1048576", "\"chunk_elements\": 0"), HasSubstr("got 0"));
  EXPECT_THAT(message("\"slice_elements\": 2048", "\"slice_elements\": 4611686018427387904"),
              HasSubstr("unit a has 1500 elements in 2 slices of 4611686018427387904"));
  EXPECT_THAT(message("\"elements\": 1500", "\"elements\": 9223372036854775807"),
              HasSubstr("unit a has 9223372036854775807 elements in 2 slices of 2048"));
  EXPECT_THAT(message("    1500\n", "    4294967296,4294967296\n"),
              HasSubstr("parameter a.w0 of shape [4294967296, 4294967296] at 0 is not within the 1500 elements"));
  for (const char* not_whole : {"3e+36", "1500.5", "\"1500\"", "null"}) {
    EXPECT_THAT(message("    1500\n", absl::StrCat("    ", not_whole, "\n")), HasSubstr("is not a valid manifest"))
        << not_whole;
    EXPECT_THAT(message("\"elements\": 1500", absl::StrCat("\"elements\": ", not_whole)),
                HasSubstr("is not a valid manifest"))
        << not_whole;
  }
  EXPECT_THAT(message("    1500\n", "    -1500\n"), HasSubstr("of shape [-1500] at 0 is not within"));
  EXPECT_THAT(message("\"world_size\": 2", "\"world_size\": 4294967298"), HasSubstr("it lists 2 files of"));
}

TEST_F(DamageTest, AManifestThatNestsTooDeepIsRefused) {
  std::string text = Slurp(path_ + "/manifest.json");
  text.replace(text.find("\"samples\": ") + 11, 1, std::string(100000, '[') + "1" + std::string(100000, ']'));
  WriteManifest(text);
  EXPECT_THAT(std::string(CheckpointReader::Open(path_).status().message()), HasSubstr("nests deeper than 64 levels"));
}

TEST_F(DamageTest, AManifestThatLacksAnEntrySaysWhich) {
  std::string text = Slurp(path_ + "/manifest.json");
  text.replace(text.find("\"world_size\""), 12, "\"world_sizf\"");
  WriteManifest(text);
  EXPECT_THAT(std::string(CheckpointReader::Open(path_).status().message()), HasSubstr("'world_size' not found"));
}

}  // namespace
}  // namespace angel_ptm
