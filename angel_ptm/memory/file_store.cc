#include "angel_ptm/memory/file_store.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/calls_file.h"
#include "angel_ptm/memory/scratch_file.h"
#include "angel_ptm/memory/uring_file.h"

namespace angel_ptm {
namespace {

constexpr uint64_t kNothing = 0;
// The pause before a request that the kernel asks to be repeated.
constexpr std::chrono::microseconds kPause(100);
constexpr double kTurnSeconds = 1;

const char* Verb(FileDirection direction) { return direction == FileDirection::kRead ? "read" : "write"; }

}  // namespace

absl::StatusOr<std::unique_ptr<FileStore>> FileStore::Create(const FileStoreOptions& options) {
  ASSIGN_OR_RETURN(ScratchFile file, ScratchFile::Create({.directory = options.directory,
                                                          .name = options.name,
                                                          .bytes = options.bytes,
                                                          .allow_buffered = options.allow_buffered}));
  absl::StatusOr<std::unique_ptr<BlockFile>> uring = MakeUringFile(file, options.queue_depth);
  if (uring.ok()) return CreateOn(options, *std::move(uring));
  return CreateOn(options, MakeCallsFile(std::move(file), options.queue_depth, std::string(uring.status().message())));
}

std::unique_ptr<FileStore> FileStore::CreateOn(const FileStoreOptions& options, std::unique_ptr<BlockFile> file,
                                               Checksum checksum) {
  return std::unique_ptr<FileStore>(new FileStore(options, std::move(file), checksum));
}

FileStore::FileStore(const FileStoreOptions& options, std::unique_ptr<BlockFile> file, Checksum checksum)
    : options_(options),
      request_bytes_(std::max(options.request_bytes / options.block_bytes, int64_t{1}) * options.block_bytes),
      file_(std::move(file)),
      checksum_(checksum) {
  APTM_CHECK(options.block_bytes >= kFileAlignment && std::has_single_bit(static_cast<uint64_t>(options.block_bytes)),
             options.block_bytes);
  APTM_CHECK(options.bytes > 0 && options.bytes % options.block_bytes == 0, options.bytes, " ", options.block_bytes);
  APTM_CHECK(options.queue_depth >= 1, options.queue_depth);
  checksums_.assign(static_cast<size_t>(options.bytes / options.block_bytes), kNothing);
  for (Lane& lane : lanes_) {
    lane.slots.resize(static_cast<size_t>(options.queue_depth));
    for (int slot = options.queue_depth - 1; slot >= 0; --slot) lane.free.push_back(slot);
  }
}

absl::Status FileStore::RegisterBuffer(std::byte* base, int64_t bytes) { return file_->RegisterBuffer(base, bytes); }

absl::Status FileStore::Write(int64_t offset, const std::byte* from, int64_t bytes) {
  return Call(FileDirection::kWrite, offset, const_cast<std::byte*>(from), bytes);  // a write only reads it
}

absl::Status FileStore::Read(int64_t offset, std::byte* to, int64_t bytes) {
  return Call(FileDirection::kRead, offset, to, bytes);
}

FileStore::Totals FileStore::totals(FileDirection direction) const {
  const Lane& l = lane(direction);
  return {.bytes = l.bytes, .seconds = 1e-9 * static_cast<double>(l.nanoseconds), .retries = l.retries};
}

absl::Status FileStore::Call(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes) {
  Enter(direction, offset, memory, bytes);
  const Clock::time_point start = Clock::now();
  absl::Status status;
  if (stalled_) {
    status = Stalled(direction);
  } else if (direction == FileDirection::kRead) {
    status = ExpectWritten(offset, bytes);
  }
  if (status.ok()) status = Transfer(direction, offset, memory, bytes);
  Lane& l = lane(direction);
  l.nanoseconds += std::chrono::nanoseconds(Clock::now() - start).count();
  if (status.ok()) {
    l.bytes += bytes;
  } else if (direction == FileDirection::kWrite) {
    const auto begin = checksums_.begin() + offset / options_.block_bytes;
    std::fill(begin, begin + bytes / options_.block_bytes, kNothing);
  }
  Leave(direction);
  return status;
}

void FileStore::Enter(FileDirection direction, int64_t offset, const std::byte* memory, int64_t bytes) {
  APTM_CHECK(offset >= 0 && offset % options_.block_bytes == 0, "offset ", offset, " of ", options_.name);
  APTM_CHECK(bytes >= 0 && bytes % options_.block_bytes == 0, bytes, " bytes of ", options_.name);
  APTM_CHECK(bytes <= options_.bytes - offset, bytes, " bytes from byte ", offset, " of ", options_.name,
             ", which has ", options_.bytes);
  APTM_CHECK(reinterpret_cast<uintptr_t>(memory) % kFileAlignment == 0, "memory for ", options_.name);
  const std::lock_guard lock(mutex_);
  Lane& own = lane(direction);
  APTM_CHECK(!own.busy, "two threads ", Verb(direction), " ", options_.name, " at once");
  const Lane& other = lanes_[1 - static_cast<int>(direction)];
  APTM_CHECK(!other.busy || offset + bytes <= other.begin || other.end <= offset, options_.name,
             " are read and written at once: [", offset, ", ", offset + bytes, ") and [", other.begin, ", ", other.end,
             ")");
  own.busy = true;
  own.begin = offset;
  own.end = offset + bytes;
}

void FileStore::Leave(FileDirection direction) {
  const std::lock_guard lock(mutex_);
  lane(direction).busy = false;
}

absl::Status FileStore::Transfer(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes) {
  std::vector<int>& free = lane(direction).free;
  absl::Status status;
  int64_t started = 0;
  double silence = 0;  // in seconds, since the last progress
  // After an error, requests in flight are still waited for: when this returns, the memory is the caller's again.
  while ((status.ok() && started < bytes) || static_cast<int>(free.size()) < options_.queue_depth) {
    while (status.ok() && started < bytes && !free.empty()) {
      const int64_t n = std::min(request_bytes_, bytes - started);
      StartNext(direction, offset + started, memory + started, n);
      started += n;
    }
    if (silence >= options_.stall_seconds) {
      stalled_ = true;
      return Stalled(direction);
    }
    const std::optional<BlockResult> result = Wait(direction, &silence);
    if (!result) continue;
    bool done = true;
    if (status.ok()) {
      const absl::StatusOr<bool> taken = Take(direction, *result, &silence);
      if (!taken.ok()) status = taken.status();
      done = !taken.ok() || *taken;
    }
    if (done) free.push_back(result->slot);
  }
  return status;
}

std::optional<BlockResult> FileStore::Wait(FileDirection direction, double* silence) {
  // Wait in short turns, none of which counts for longer than was asked: a suspended process hears nothing from its
  // drive.
  const double turn = std::min(kTurnSeconds, options_.stall_seconds / 8);
  const Clock::time_point start = Clock::now();
  const std::optional<BlockResult> result = file_->Wait(direction, turn);
  if (!result) *silence += std::min(turn, std::chrono::duration<double>(Clock::now() - start).count());
  return result;
}

void FileStore::StartNext(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes) {
  Lane& l = lane(direction);
  const int slot = l.free.back();
  l.free.pop_back();
  l.slots[slot] = {.offset = offset, .bytes = bytes, .memory = memory};
  if (direction == FileDirection::kWrite) {
    // A request's checksums are computed while earlier requests are in flight.
    const int64_t block = options_.block_bytes;
    for (int64_t at = 0; at < bytes; at += block) checksums_[(offset + at) / block] = ChecksumOf(memory + at);
  }
  Continue(direction, slot);
}

void FileStore::Continue(FileDirection direction, int slot) {
  const Slot& s = lane(direction).slots[slot];
  file_->Start(direction,
               {.slot = slot, .offset = s.offset + s.done, .memory = s.memory + s.done, .bytes = s.bytes - s.done});
}

absl::StatusOr<bool> FileStore::Take(FileDirection direction, const BlockResult& result, double* silence) {
  Slot& s = lane(direction).slots[result.slot];
  if (result.error == EINTR || result.error == EAGAIN) {
    if (result.error == EAGAIN) {
      std::this_thread::sleep_for(kPause);
      *silence += std::chrono::duration<double>(kPause).count();
    }
    Continue(direction, result.slot);
    return false;
  }
  if (result.error != 0) return Failed(direction, result.slot, result.error);
  APTM_CHECK(result.bytes >= 0 && result.bytes <= s.bytes - s.done, result.bytes);
  int64_t moved = result.bytes;
  // Direct I/O can continue only at a multiple of its unit.
  if (s.done + moved < s.bytes) moved -= moved % kFileAlignment;
  if (moved == 0) return Failed(direction, result.slot, 0);
  *silence = 0;
  s.failures = 0;
  s.done += moved;
  if (s.done == s.bytes) return direction == FileDirection::kWrite ? true : Verify(result.slot);
  Continue(direction, result.slot);
  return false;
}

absl::StatusOr<bool> FileStore::Failed(FileDirection direction, int slot, int error) {
  Lane& l = lane(direction);
  Slot& s = l.slots[slot];
  if ((error == EIO || error == 0) && s.failures < kRetries) {
    ++s.failures;
    ++l.retries;
    Continue(direction, slot);
    return false;
  }
  const std::string action = absl::StrCat(Verb(direction), " byte ", s.offset + s.done, " of");
  const std::string tried = s.failures > 0 ? absl::StrCat(" (tried ", s.failures + 1, " times)") : "";
  const std::string path = absl::StrCat(options_.name, " in ", options_.directory);
  if (error == 0) return absl::DataLossError(absl::StrCat("cannot ", action, " ", path, ": no byte is moved", tried));
  const absl::Status status = FileError(action, path, error);
  return absl::Status(status.code(), absl::StrCat(std::string(status.message()), tried));
}

uint64_t FileStore::ChecksumOf(const std::byte* block) const {
  const uint64_t checksum = checksum_(std::span(block, static_cast<size_t>(options_.block_bytes)));
  return checksum == kNothing ? 1 : checksum;
}

absl::StatusOr<bool> FileStore::Verify(int slot) {
  Lane& l = lane(FileDirection::kRead);
  Slot& s = l.slots[slot];
  for (int64_t at = 0; at < s.bytes; at += options_.block_bytes) {
    const int64_t block = (s.offset + at) / options_.block_bytes;
    const uint64_t got = ChecksumOf(s.memory + at);
    if (got == checksums_[block]) continue;
    if (s.read_again) {
      return absl::DataLossError(
          absl::StrCat("cannot trust byte ", s.offset + at, " of ", options_.name, " in ", options_.directory,
                       ": block ", block, " (", FormatBytes(options_.block_bytes), ") was written with checksum ",
                       ChecksumText(checksums_[block]), " and twice read with another, last ", ChecksumText(got)));
    }
    s.read_again = true;
    s.done = 0;
    ++l.retries;
    Continue(FileDirection::kRead, slot);
    return false;
  }
  return true;
}

absl::Status FileStore::ExpectWritten(int64_t offset, int64_t bytes) const {
  for (int64_t block = offset / options_.block_bytes; block < (offset + bytes) / options_.block_bytes; ++block) {
    if (checksums_[block] != kNothing) continue;
    return absl::DataLossError(absl::StrCat("cannot read byte ", block * options_.block_bytes, " of ", options_.name,
                                            " in ", options_.directory, ": block ", block,
                                            " was never written, or its last write failed"));
  }
  return absl::OkStatus();
}

absl::Status FileStore::Stalled(FileDirection direction) const {
  return absl::DeadlineExceededError(absl::StrCat("cannot ", Verb(direction), " ", options_.name, " in ",
                                                  options_.directory, ": the drive has not moved a byte for ",
                                                  FormatSeconds(options_.stall_seconds)));
}

}  // namespace angel_ptm
