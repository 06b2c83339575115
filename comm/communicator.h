// The door to other ranks: few verbs, all blocking. The executor calls them on its comm lane, so progress never depends
// on the compute lane (OpenMPI's non-blocking collectives do not advance by themselves). One thread at a time may be in
// a Communicator: others than the comm lane only while the lanes are idle, between the executor's calls. Communicators
// of a rank (a group and what it was split from) may be used at the same time.
//
// Contract of every implementation:
// * All ranks call the same verbs with the same sizes in the same order (law 4); CheckedCommunicator proves it.
// * It moves bytes and computes nothing: sums are ours, in rank order (ordered_reduce_scatter.h), so every transport
//   gives the same bits.
// * Sizes are 64-bit; transports split transfers beyond 2^31 - 1 elements themselves.
// * Nothing is allocated in a verb after the first call of each (libraries excepted); scratch comes from the caller.
// * Errors (absl::Status): kUnavailable when a peer died or was silent longer than the timeout, with a sentence naming
//   this rank, the peers it waits for and `what` of the current call; kInternal when the transport fails. Ranks are
//   named as in the world, in groups too. After an error the communicator is unusable, and the buffers of the failed
//   call must live as long as it does (KeepAlive). An error ends a run: transports that can (direct reads) end the
//   calls of all communicators of the world with it.
#ifndef ANGEL_PTM_COMM_COMMUNICATOR_H_
#define ANGEL_PTM_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Names the call in error messages and in the sequence check, e.g. {"gather layer.3.experts", 17}. `what` must outlive
// the call.
struct CallTag {
  std::string_view what;
  int64_t step = -1;
};

// What a rank sends in an all-to-all: `bytes` bytes at data + r * stride to each rank r.
struct SendBlocks {
  // Of equal parts, one after another.
  static SendBlocks Parts(std::span<const std::byte> all, int size) {
    const int64_t bytes = static_cast<int64_t>(all.size()) / size;
    return {all.data(), bytes, bytes};
  }

  const std::byte* data = nullptr;
  int64_t stride = 0;
  int64_t bytes = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Which rank of the world the rank `rank` of this communicator is.
  virtual int world_rank(int rank) const = 0;

  // dst[r*n .. (r+1)*n) = src of rank r, n = src.size() bytes. src may be its own place in dst; otherwise no overlap.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) = 0;

  // The block for rank d of every rank r arrives in dst_d[r*n..]; n = src.bytes, dst.size() == size * n. Strides and n
  // are the same on all ranks.
  virtual absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) = 0;

  // dst of every rank = dst of rank `root`.
  virtual absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) = 0;

  virtual absl::Status Barrier(CallTag tag) = 0;

  // Collective over this communicator: the ranks that pass the same color get a communicator of their own, a group, in
  // this one's order; if all pass the same it is a duplicate. Calls on it and on this one do not meet, so that both may
  // be under way at once, on different threads of a rank. It waits as this one does (WaitOptions), so a rank that is
  // lost, inside the group or outside, ends its waits too. A group can be split again. For start-up: a rank is in one
  // Split at a time, whatever the communicator.
  //
  // Lifetime: the caller's, shorter or longer than this communicator's, but within the world's (MpiWorld). Destroying
  // it says that this rank has ended in the group, not in the world. It has a KeepAlive of its own.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) = 0;

  // Memory that calls use: a message that came late, of a call that failed, may still be written to it. Freed after the
  // communicator.
  virtual void KeepAlive(std::shared_ptr<const void> memory) { kept_.push_back(std::move(memory)); }

 private:
  std::vector<std::shared_ptr<const void>> kept_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_COMMUNICATOR_H_
