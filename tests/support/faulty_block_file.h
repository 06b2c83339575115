// A device in memory that does to transfers what drives do, as a seed says.
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
  kSlow,           // the result is there only when asked again
  kShort,          // a part is moved, often no whole number of sectors, but one at least
  kInterrupted,    // EINTR
  kBusy,           // EAGAIN
  kNothingOnce,    // no byte is moved; the next attempt goes well
  kIoErrorOnce,    // EIO; the next attempt goes well
  kFlippedOnce,    // a bit read wrong, once in the device's life
  kIoErrorAlways,  // the first block can no longer be read or written
  kFull,           // ENOSPC, of writes
  kFlippedAlways,  // a bit written wrong
  kLost,           // a write that does nothing and says it is done
  kSwapped,        // a write whose first block changes places with another one
};
inline constexpr int kDeviceFaults = 12;
// A store recovers from all faults before.
inline constexpr DeviceFault kFirstLasting = DeviceFault::kIoErrorAlways;

class FaultyBlockFile : public BlockFile {
 public:
  // Of a fault at each request: in [0, 1], 0 for none.
  using Chances = std::array<double, kDeviceFaults>;

  FaultyBlockFile(int64_t bytes, uint64_t seed, const Chances& chances);

  std::string description() const override { return "a faulty device"; }
  absl::Status RegisterBuffer(std::byte*, int64_t) override { return absl::OkStatus(); }
  void Start(FileDirection direction, const BlockRequest& request) override;
  // In any order.
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
  std::mutex mutex_;  // of all below: two directions, one device
  uint64_t drawn_ = 0;
  std::vector<std::byte> data_;
  std::array<std::vector<BlockRequest>, kFileDirections> started_;
  std::set<int64_t> spared_;  // places where the next attempt goes well
  std::set<int64_t> broken_;
  std::array<int64_t, kDeviceFaults> injected_ = {};
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAULTY_BLOCK_FILE_H_
