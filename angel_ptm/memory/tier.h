// The door to memory: one arena per tier, reserved and touched once at start and never grown. A place in a tier is a
// byte offset; the Plan decides who uses which bytes when, so there is no free list and nothing can fragment.
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

  // The arena's first byte where the backend's kernels can address it, 4 KiB aligned. Never moves. Null where nobody
  // computes (SpecOf(kind()).processor).
  virtual std::byte* data() = 0;
  // The same where the host can read and write there; else null.
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

// Memory for an arena: `bytes` of it, zeroed and touched by `threads` threads, 4 KiB aligned, which lives as long as
// the pointer. Null: it has none to give, any memory does.
using ArenaSource = std::function<absl::StatusOr<std::shared_ptr<std::byte>>(int64_t bytes, int threads)>;

// A bounded arena of host memory: the host tier, and on a machine without a GPU the device tier too. Pages are touched
// here, on huge pages where the kernel grants them, so that a run neither faults nor is overcommitted later: by
// `threads` threads in turns, since one takes minutes for a terabyte and would put all of it beside its own core.
// source: asked for the memory first, also for none (a source may be collective); a run's is its communicator, so that
// other ranks of the machine read it in place. kResourceExhausted if the memory cannot be had; the source's errors.
absl::StatusOr<std::unique_ptr<Tier>> MakeHostArena(TierKind kind, int64_t bytes, int threads = 1,
                                                    const ArenaSource& source = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_TIER_H_
