// The door to memory: one arena per tier, reserved and touched once at start and never grown. A place in a tier is a
// byte offset; the Plan decides who uses which bytes when, so there is no free list and nothing can fragment.
#ifndef ANGEL_PTM_MEMORY_TIER_H_
#define ANGEL_PTM_MEMORY_TIER_H_

#include <cstddef>
#include <cstdint>
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

  // The arena's first byte where the backend's kernels can address it, 4 KiB aligned. Never moves.
  virtual std::byte* data() = 0;

  // Copies between this tier and host memory outside the arenas (batches, losses, checkpoints). Blocking.
  virtual void Write(int64_t offset, const void* src, int64_t bytes) = 0;
  virtual void Read(int64_t offset, void* dst, int64_t bytes) = 0;

 protected:
  Tier(TierKind kind, int64_t bytes) : kind_(kind), bytes_(bytes) {}

 private:
  const TierKind kind_;
  const int64_t bytes_;
};

// A bounded arena of host memory: the host tier, and on a machine without a GPU the device tier too. Pages are touched
// here, on huge pages where the kernel grants them, so that a run neither faults nor is overcommitted later: by
// `threads` threads in turns, since one takes minutes for a terabyte and would put all of it beside its own core.
// kResourceExhausted if the memory cannot be had.
absl::StatusOr<std::unique_ptr<Tier>> MakeHostArena(TierKind kind, int64_t bytes, int threads = 1);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_TIER_H_
