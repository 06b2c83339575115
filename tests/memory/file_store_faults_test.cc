// FileStore on failing devices: every read returns the bytes written last or an error. Checksums detect faults that the
// device does not report.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "angel_ptm/base/random.h"
#include "angel_ptm/memory/file_store.h"
#include "tests/memory/aligned_bytes.h"
#include "tests/support/faulty_block_file.h"
#include "tests/support/throttled_block_file.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBlock = kFileAlignment, kBlocks = 24;
constexpr int kOperations = 18, kSeeds = 600;
constexpr DeviceFault kSilent[] = {DeviceFault::kFlippedOnce, DeviceFault::kFlippedAlways, DeviceFault::kLost,
                                   DeviceFault::kSwapped};

FileStoreOptions Options() {
  return {.directory = "/drive",
          .name = "pages of rank 3",
          .bytes = kBlocks * kBlock,
          .block_bytes = kBlock,
          .queue_depth = 3,
          .request_bytes = 3 * kBlock};
}

struct Outcome {
  int right_reads = 0, wrong_reads = 0, errors = 0;
  int64_t retries = 0;
  std::array<int64_t, kDeviceFaults> injected = {};

  void Add(const Outcome& other) {
    right_reads += other.right_reads;
    wrong_reads += other.wrong_reads;
    errors += other.errors;
    retries += other.retries;
    for (int f = 0; f < kDeviceFaults; ++f) injected[f] += other.injected[f];
  }
};

// Writes and reads random ranges, sometimes concurrently, and compares reads with what each block must hold.
class Session {
 public:
  Session(uint64_t seed, const FaultyBlockFile::Chances& chances, FileStore::Checksum checksum) : seed_(seed) {
    auto device = std::make_unique<FaultyBlockFile>(kBlocks * kBlock, seed, chances);
    device_ = device.get();
    store_ = FileStore::CreateOn(Options(), std::move(device), checksum);
  }

  Outcome Play() {
    for (int i = 0; i < kOperations; ++i) {
      // Every sixth time, one thread reads one half while another writes the other.
      const bool both = i % 6 == 5;
      const int64_t half = kBlocks / 2, first = both ? Random(2) * half : 0, blocks = both ? half : kBlocks;
      const Range written = RandomRange(first, blocks), read = RandomRange(both ? half - first : 0, blocks);
      if (both) {
        std::thread writer([&] { Write(written, i); });
        Read(read);
        writer.join();
      } else {
        i % 2 == 0 ? Write(written, i) : Read(read);
      }
    }
    outcome_.errors = write_errors_ + read_errors_;
    for (int f = 0; f < kDeviceFaults; ++f) outcome_.injected[f] = device_->injected(static_cast<DeviceFault>(f));
    outcome_.retries = store_->totals(FileDirection::kRead).retries + store_->totals(FileDirection::kWrite).retries;
    return outcome_;
  }

 private:
  struct Range {
    int64_t begin, blocks;
  };
  // The seed of a block's content; 0: the block holds nothing whole, and a read must fail.
  using Content = uint64_t;

  int64_t Random(int64_t n) { return RandomWords(seed_, RandomPurpose::kTest, 1, drawn_++)[0] % n; }
  Range RandomRange(int64_t first, int64_t blocks) {
    const int64_t begin = Random(blocks);
    return {first + begin, 1 + Random(blocks - begin)};
  }

  void Write(const Range& range, int operation) {
    for (int64_t b = range.begin; b < range.begin + range.blocks; ++b) {
      contents_[b] = static_cast<Content>(operation + 1) * kBlocks + b;
      written_.Fill(b * kBlock, kBlock, contents_[b]);
    }
    const absl::Status status =
        store_->Write(range.begin * kBlock, written_.data() + range.begin * kBlock, range.blocks * kBlock);
    if (status.ok()) return;
    ++write_errors_;
    std::fill_n(contents_.begin() + range.begin, range.blocks, 0);
  }

  void Read(const Range& range) {
    const int64_t begin = range.begin * kBlock, bytes = range.blocks * kBlock;
    std::memset(read_.data() + begin, 0xEE, static_cast<size_t>(bytes));
    const absl::Status status = store_->Read(begin, read_.data() + begin, bytes);
    if (!status.ok()) {
      ++read_errors_;
      return;
    }
    const auto first = contents_.begin() + range.begin;
    const bool right = std::count(first, first + range.blocks, Content{0}) == 0 &&
                       std::memcmp(read_.data() + begin, written_.data() + begin, static_cast<size_t>(bytes)) == 0;
    ++(right ? outcome_.right_reads : outcome_.wrong_reads);
  }

  const uint64_t seed_;
  uint64_t drawn_ = 0;
  std::unique_ptr<FileStore> store_;
  FaultyBlockFile* device_ = nullptr;
  std::array<Content, kBlocks> contents_ = {};
  AlignedBytes written_{kBlocks * kBlock}, read_{kBlocks * kBlock};
  Outcome outcome_;
  int write_errors_ = 0, read_errors_ = 0;  // by the writing and the reading thread
};

// Chances for one to three of the fault kinds [0, kinds), each at up to a fifth of the requests.
FaultyBlockFile::Chances RandomChances(uint64_t seed, int kinds) {
  FaultyBlockFile::Chances chances = {};
  const auto words = RandomWords(seed, RandomPurpose::kTest, 2, 0);
  for (uint32_t i = 0; i <= words[3] % 3; ++i) chances[words[i] % kinds] = 0.2 * ToUniform(words[i] * 2654435761u);
  chances[static_cast<int>(DeviceFault::kBusy)] /= 8;  // the store sleeps at each
  return chances;
}

TEST(FileStoreFaultsTest, EveryRunEndsWithTheRightBytesOrAnError) {
  Outcome all;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = Session(seed, RandomChances(seed, kDeviceFaults), Xxh3).Play();
    ASSERT_EQ(outcome.wrong_reads, 0) << "seed " << seed;
    all.Add(outcome);
  }
  for (int f = 0; f < kDeviceFaults; ++f) EXPECT_GT(all.injected[f], 10) << "fault " << f;
  EXPECT_GT(all.right_reads, kSeeds / 2);
  EXPECT_GT(all.errors, kSeeds / 2);
}

// With faults that pass, the only errors are reads of blocks that were never written.
TEST(FileStoreFaultsTest, FaultsThatPassAreNoErrors) {
  Outcome healthy, faulty;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    healthy.Add(Session(seed, {}, Xxh3).Play());
    faulty.Add(Session(seed, RandomChances(seed, static_cast<int>(kFirstLasting)), Xxh3).Play());
  }
  EXPECT_EQ(healthy.wrong_reads + faulty.wrong_reads, 0);
  EXPECT_EQ(faulty.errors, healthy.errors);
  EXPECT_EQ(faulty.right_reads, healthy.right_reads);
  EXPECT_EQ(healthy.retries, 0);
  EXPECT_GT(faulty.retries, 20);
}

// Sabotage: a store whose checksums are all equal returns what silent faults left.
TEST(FileStoreFaultsTest, WithoutChecksumsSilentFaultsAreRead) {
  for (const DeviceFault fault : kSilent) {
    FaultyBlockFile::Chances chances = {};
    chances[static_cast<int>(fault)] = 0.1;
    Outcome without, with;
    for (uint64_t seed = 0; seed < 25; ++seed) {
      without.Add(Session(seed, chances, [](std::span<const std::byte>) { return uint64_t{7}; }).Play());
      with.Add(Session(seed, chances, Xxh3).Play());
    }
    EXPECT_GT(without.wrong_reads, 10) << static_cast<int>(fault);
    EXPECT_EQ(with.wrong_reads, 0) << static_cast<int>(fault);
  }
}

// The device that tests of overlap use: each direction has the requested speed independently, however deep the queue.
TEST(ThrottledBlockFileTest, BothDirectionsTakeTheirTime) {
  constexpr double kReadSeconds = 0.1, kWriteSeconds = 0.2, kBytes = kBlocks * kBlock;
  const FileStoreOptions options = Options();
  const FaultyBlockFile::Chances none = {};
  const auto store = FileStore::CreateOn(
      options, std::make_unique<ThrottledBlockFile>(std::make_unique<FaultyBlockFile>(options.bytes, 1, none),
                                                    DeviceSpeed{kBytes / kReadSeconds},
                                                    DeviceSpeed{kBytes / kWriteSeconds}, options.queue_depth));
  AlignedBytes bytes(options.bytes), read(options.bytes / 2);
  ASSERT_EQ(store->Write(0, bytes.data(), options.bytes), absl::OkStatus());
  EXPECT_GE(store->totals(FileDirection::kWrite).seconds, kWriteSeconds);
  std::thread writer([&] { EXPECT_EQ(store->Write(0, bytes.data(), options.bytes / 2), absl::OkStatus()); });
  EXPECT_EQ(store->Read(options.bytes / 2, read.data(), options.bytes / 2), absl::OkStatus());
  writer.join();
  EXPECT_GE(store->totals(FileDirection::kWrite).seconds, 1.5 * kWriteSeconds);
  EXPECT_GE(store->totals(FileDirection::kRead).seconds, 0.5 * kReadSeconds);
}

// Answers each request as the test decides.
class ScriptedFile : public BlockFile {
 public:
  using Answer = std::function<std::optional<BlockResult>(FileDirection, const BlockRequest&)>;
  // `answer` is asked for requests in the order of their offsets.
  explicit ScriptedFile(Answer answer) : answer_(std::move(answer)) {}

  std::string description() const override { return "scripted"; }
  absl::Status RegisterBuffer(std::byte*, int64_t) override { return absl::OkStatus(); }
  void Start(FileDirection, const BlockRequest& request) override { started_.push_back(request); }
  std::optional<BlockResult> Wait(FileDirection direction, double) override {
    const auto first = std::min_element(started_.begin(), started_.end(),
                                        [](const auto& a, const auto& b) { return a.offset < b.offset; });
    const std::optional<BlockResult> result = answer_(direction, *first);
    if (result) started_.erase(first);
    return result;
  }

 private:
  const Answer answer_;
  std::vector<BlockRequest> started_;
};

class FileStoreMessageTest : public testing::Test {
 protected:
  static BlockResult Done(const BlockRequest& request) { return {.slot = request.slot, .bytes = request.bytes}; }
  // Writes all blocks, then reads them.
  absl::Status WriteAndRead(ScriptedFile::Answer answer, double stall_seconds = 60) {
    FileStoreOptions options = Options();
    options.stall_seconds = stall_seconds;
    store_ = FileStore::CreateOn(options, std::make_unique<ScriptedFile>(std::move(answer)));
    const absl::Status status = store_->Write(0, bytes_.data(), bytes_.bytes());
    return status.ok() ? store_->Read(0, bytes_.data(), bytes_.bytes()) : status;
  }
  AlignedBytes bytes_{kBlocks * kBlock};
  std::unique_ptr<FileStore> store_;
};

TEST_F(FileStoreMessageTest, AnIoErrorThatStays) {
  EXPECT_EQ(
      WriteAndRead([](FileDirection direction, const BlockRequest& request) {
        if (direction == FileDirection::kWrite || request.offset != 3 * kBlock) return Done(request);
        return BlockResult{.slot = request.slot, .error = EIO};
      }),
      absl::DataLossError("cannot read byte 12288 of pages of rank 3 in /drive: Input/output error (tried 4 times)"));
  EXPECT_EQ(store_->totals(FileDirection::kRead).retries, FileStore::kRetries);
}

TEST_F(FileStoreMessageTest, OnlyFailuresInARowCount) {
  int attempts = 0;
  EXPECT_EQ(WriteAndRead([&](FileDirection, const BlockRequest& request) {
              if (++attempts % (FileStore::kRetries + 1) != 0) return BlockResult{.slot = request.slot, .error = EIO};
              return BlockResult{.slot = request.slot, .bytes = kFileAlignment};
            }),
            absl::OkStatus());
}

TEST_F(FileStoreMessageTest, NoByteIsMoved) {
  EXPECT_EQ(WriteAndRead([](FileDirection, const BlockRequest& request) { return BlockResult{.slot = request.slot}; }),
            absl::DataLossError("cannot write byte 0 of pages of rank 3 in /drive: no byte is moved (tried 4 times)"));
}

TEST_F(FileStoreMessageTest, ADiskThatFillsUpAfterAll) {
  EXPECT_EQ(
      WriteAndRead([](FileDirection, const BlockRequest& request) {
        if (request.offset < 6 * kBlock) return Done(request);
        return BlockResult{.slot = request.slot, .error = ENOSPC};
      }),
      absl::ResourceExhaustedError("cannot write byte 24576 of pages of rank 3 in /drive: No space left on device"));
}

TEST_F(FileStoreMessageTest, AWrongChecksum) {
  const absl::Status status = WriteAndRead([](FileDirection direction, const BlockRequest& request) {
    if (direction == FileDirection::kRead) std::memset(request.memory, 1, static_cast<size_t>(request.bytes));
    return Done(request);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  const std::string wanted = ChecksumText(Xxh3(std::string(kBlock, '\xEE'))),
                    got = ChecksumText(Xxh3(std::string(kBlock, '\1')));
  EXPECT_EQ(status.message(),
            "cannot trust byte 0 of pages of rank 3 in /drive: block 0 (4.00 KiB) was written with checksum " + wanted +
                " and twice read with another, last " + got);
}

TEST_F(FileStoreMessageTest, ADriveThatStalls) {
  const auto never = [](FileDirection, const BlockRequest&) -> std::optional<BlockResult> {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return std::nullopt;
  };
  EXPECT_EQ(
      WriteAndRead(never, 0.1),
      absl::DeadlineExceededError("cannot write pages of rank 3 in /drive: the drive has not moved a byte for 0.1 s"));
  EXPECT_EQ(store_->Read(0, bytes_.data(), kBlock).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(FileStoreMessageTest, ADriveThatIsBusyForEver) {
  const auto busy = [](FileDirection, const BlockRequest& request) {
    return BlockResult{.slot = request.slot, .error = EAGAIN};
  };
  EXPECT_EQ(WriteAndRead(busy, 0.02).code(), absl::StatusCode::kDeadlineExceeded);
}

// The process may have been suspended: one long wait does not mean that the drive is silent.
TEST_F(FileStoreMessageTest, OneLongWaitIsNoStall) {
  bool waited = false;
  EXPECT_EQ(WriteAndRead(
                [&](FileDirection, const BlockRequest& request) -> std::optional<BlockResult> {
                  if (std::exchange(waited, true)) return Done(request);
                  std::this_thread::sleep_for(std::chrono::milliseconds(150));
                  return std::nullopt;
                },
                0.1),
            absl::OkStatus());
}

}  // namespace
}  // namespace angel_ptm
