#include "tests/support/faulty_block_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/random.h"

namespace angel_ptm {

FaultyBlockFile::FaultyBlockFile(int64_t bytes, uint64_t seed, const Chances& chances)
    : seed_(seed), chances_(chances), data_(static_cast<size_t>(bytes)) {}

uint32_t FaultyBlockFile::Random() { return RandomWords(seed_, RandomPurpose::kTest, 0, drawn_++)[0]; }

bool FaultyBlockFile::Happens(DeviceFault fault) {
  const double chance = chances_[static_cast<int>(fault)];
  if (chance == 0 || ToUniform(Random()) >= chance) return false;
  ++injected_[static_cast<int>(fault)];
  return true;
}

void FaultyBlockFile::Start(FileDirection direction, const BlockRequest& request) {
  const std::lock_guard lock(mutex_);
  APTM_CHECK(request.offset >= 0 && request.offset % kFileAlignment == 0 && request.bytes % kFileAlignment == 0 &&
             request.bytes > 0 && request.offset + request.bytes <= static_cast<int64_t>(data_.size()));
  started_[static_cast<int>(direction)].push_back(request);
}

std::optional<BlockResult> FaultyBlockFile::Wait(FileDirection direction, double) {
  const std::lock_guard lock(mutex_);
  std::vector<BlockRequest>& started = started_[static_cast<int>(direction)];
  APTM_CHECK(!started.empty(), "waits for nothing");
  if (Happens(DeviceFault::kSlow)) return std::nullopt;
  std::swap(started[Random() % started.size()], started.back());
  const BlockRequest request = started.back();
  started.pop_back();
  BlockResult result{.slot = request.slot, .error = ErrorOf(direction, request)};
  if (result.error != 0) return result;
  const bool spared = spared_.erase(request.offset) > 0;
  if (!spared && Happens(DeviceFault::kNothingOnce)) {
    spared_.insert(request.offset);
    return result;
  }
  result.bytes = request.bytes;
  if (request.bytes > kFileAlignment && Happens(DeviceFault::kShort)) {
    result.bytes = kFileAlignment + Random() % (request.bytes - kFileAlignment);
  }
  direction == FileDirection::kRead ? Read(request, result.bytes) : Write(request, result.bytes);
  return result;
}

int FaultyBlockFile::ErrorOf(FileDirection direction, const BlockRequest& request) {
  if (Happens(DeviceFault::kInterrupted)) return EINTR;
  if (Happens(DeviceFault::kBusy)) return EAGAIN;
  if (Happens(DeviceFault::kIoErrorAlways)) broken_.insert(request.offset);
  const auto broken = broken_.lower_bound(request.offset);
  if (broken != broken_.end() && *broken < request.offset + request.bytes) return EIO;
  if (!spared_.contains(request.offset) && Happens(DeviceFault::kIoErrorOnce)) {
    spared_.insert(request.offset);
    return EIO;
  }
  return direction == FileDirection::kWrite && Happens(DeviceFault::kFull) ? ENOSPC : 0;
}

void FaultyBlockFile::Read(const BlockRequest& request, int64_t bytes) {
  std::memcpy(request.memory, data_.data() + request.offset, static_cast<size_t>(bytes));
  if (injected(DeviceFault::kFlippedOnce) == 0 && Happens(DeviceFault::kFlippedOnce)) {
    request.memory[Random() % bytes] ^= std::byte{1} << Random() % 8;
  }
}

void FaultyBlockFile::Write(const BlockRequest& request, int64_t bytes) {
  if (Happens(DeviceFault::kLost)) return;
  std::memcpy(data_.data() + request.offset, request.memory, static_cast<size_t>(bytes));
  if (Happens(DeviceFault::kFlippedAlways)) {
    data_[request.offset + Random() % bytes] ^= std::byte{1} << Random() % 8;
  }
  if (Happens(DeviceFault::kSwapped)) {
    const int64_t blocks = static_cast<int64_t>(data_.size()) / kFileAlignment;
    const int64_t block = request.offset / kFileAlignment;
    const auto other = data_.begin() + (block + 1 + Random() % (blocks - 1)) % blocks * kFileAlignment;
    std::swap_ranges(other, other + kFileAlignment, data_.begin() + request.offset);
  }
}

}  // namespace angel_ptm
