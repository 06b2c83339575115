// A block device in memory whose transfers fail as those of real drives do, chosen by a seed.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FAULTY_BLOCK_FILE_H_
#define ANGEL_PTM_TESTS_SUPPORT_FAULTY_BLOCK_FILE_H_

#include <array>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "angel_ptm/memory/block_file.h"

namespace angel_ptm {

enum class DeviceFault {
  kSlow,           // the result is available only when asked for again
  kShort,          // only a part is moved, often not a whole number of sectors, but at least one
  kInterrupted,    // EINTR
  kBusy,           // EAGAIN
  kNothingOnce,    // no byte is moved; the next attempt succeeds
  kIoErrorOnce,    // EIO; the next attempt succeeds
  kFlippedOnce,    // a bit is read wrong, once in the device's life
  kIoErrorAlways,  // the first block can no longer be read or written
  kFull,           // writes fail with ENOSPC
  kFlippedAlways,  // a bit is written wrong
  kLost,           // a write does nothing and reports success
  kSwapped,        // the first block of a write is swapped with another block
};
inline constexpr int kDeviceFaults = 12;
// The first lasting fault. A store recovers from all faults before it.
inline constexpr DeviceFault kFirstLasting = DeviceFault::kIoErrorAlways;

class FaultyBlockFile : public BlockFile {
 public:
  // The probability of each fault per request, in [0, 1]; 0 for never.
  using Chances = std::array<double, kDeviceFaults>;

  FaultyBlockFile(int64_t bytes, uint64_t seed, const Chances& chances);

  std::string description() const override { return "a faulty device"; }
  absl::Status RegisterBuffer(std::byte*, int64_t) override { return absl::OkStatus(); }
  void Start(FileDirection direction, const BlockRequest& request) override;
  // Returns results in any order.
  std::optional<BlockResult> Wait(FileDirection direction, double seconds) override;

  int64_t injected(DeviceFault fault) const { return injected_[static_cast<int>(fault)]; }

 private:
  bool Happens(DeviceFault fault);
  uint32_t Random();
  int ErrorOf(FileDirection direction, const BlockRequest& request);
  void Read(const BlockRequest& request, int64_t bytes);
  void Write(const BlockRequest& request, int64_t bytes);

  const uint64_t seed_;
  const Chances chances_;
  std::mutex mutex_;  // guards all members below: both directions share one device
  uint64_t drawn_ = 0;
  std::vector<std::byte> data_;
  std::array<std::vector<BlockRequest>, kFileDirections> started_;
  std::set<int64_t> spared_;  // places where the next attempt succeeds
  std::set<int64_t> broken_;
  std::array<int64_t, kDeviceFaults> injected_ = {};
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAULTY_BLOCK_FILE_H_
