// The interface to memory: one arena per tier, reserved and touched once at start and never grown. A place in a tier is
// a byte offset; the Plan decides who uses which bytes when, so there is no free list and nothing can fragment.
#ifndef ANGEL_PTM_MEMORY_TIER_H_
#define ANGEL_PTM_MEMORY_TIER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "angel_ptm/base/status.h"
#include "angel_ptm/base/tier_kind.h"

namespace angel_ptm {

class Tier {
 public:
  virtual ~Tier() = default;
  Tier(const Tier&) = delete;
  Tier& operator=(const Tier&) = delete;

  TierKind kind() const { return kind_; }
  int64_t bytes() const { return bytes_; }

  // The arena's first byte, as the backend's kernels address it, 4 KiB aligned. Never moves. Null for a tier on which
  // nothing computes (SpecOf(kind()).processor).
  virtual std::byte* data() = 0;
  // The same if the host can read and write there; otherwise null.
  virtual std::byte* host_data() { return data(); }

  // Copies between this tier and host memory outside the arenas (batches, losses, initial values, checkpoints).
  // Blocking. Errors: a drive's (file_store.h).
  virtual absl::Status Write(int64_t offset, const void* src, int64_t bytes) = 0;
  virtual absl::Status Read(int64_t offset, void* dst, int64_t bytes) = 0;

 protected:
  Tier(TierKind kind, int64_t bytes) : kind_(kind), bytes_(bytes) {}

 private:
  const TierKind kind_;
  const int64_t bytes_;
};

// Provides memory for an arena: `bytes` bytes, zeroed and touched by `threads` threads, 4 KiB aligned, which live as
// long as the pointer. Null: the source has none to give, and any memory serves.
using ArenaSource = std::function<absl::StatusOr<std::shared_ptr<std::byte>>(int64_t bytes, int threads)>;

// A bounded arena of host memory: the host tier and, on a machine without a GPU, the device tier too. Pages are touched
// here, on huge pages where the kernel grants them, so that a run neither faults nor is overcommitted later. `threads`
// threads touch them in turns, because a single thread takes minutes for a terabyte and would place all of it near its
// own core. source: asked for the memory first, even for 0 bytes (a source may be collective); a run's source is its
// communicator, so that other ranks of the machine can read the memory in place. Errors: kResourceExhausted if the
// memory cannot be had; the source's errors.
absl::StatusOr<std::unique_ptr<Tier>> MakeHostArena(TierKind kind, int64_t bytes, int threads = 1,
                                                    const ArenaSource& source = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_TIER_H_
