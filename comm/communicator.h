// The door to other ranks: few verbs, all blocking. The executor calls them on its comm lane, so progress never depends
// on the compute lane (OpenMPI's non-blocking collectives do not advance by themselves). One thread at a time may be in
// a Communicator: others than the comm lane only while the lanes are idle, between the executor's calls.
//
// Contract of every implementation:
// * All ranks call the same verbs with the same sizes in the same order (law 4); CheckedCommunicator proves it.
// * Reductions add in rank order 0, 1, ..., size-1 in fp32, so every transport gives the same bits (DESIGN "Numerics").
// * Sizes are 64-bit; transports split transfers beyond 2^31 - 1 elements themselves.
// * Nothing is allocated in a verb after the first call of each (libraries excepted); scratch comes from the caller.
// * Errors (absl::Status): kUnavailable when a peer died or was silent longer than the timeout, with a sentence naming
//   this rank, the peers it waits for and `what` of the current call; kInternal when the transport fails. After an
//   error the communicator is unusable, and the buffers of the failed call must live as long as it does.
#ifndef ANGEL_PTM_COMM_COMMUNICATOR_H_
#define ANGEL_PTM_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Names the call in error messages and in the sequence check, e.g. {"gather layer.3.experts", 17}. `what` must outlive
// the call.
struct CallTag {
  std::string_view what;
  int64_t step = -1;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // dst[r*n .. (r+1)*n) = src of rank r, n = src.size() bytes. src may be its own place in dst; otherwise no overlap.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) = 0;

  // dst[i] (+)= sum over ranks r, in rank order, of src_r[rank*n + i], i < n = dst.size(); src.size() == size*n.
  // With accumulate the ordered sum is formed first and then added to dst once. scratch: at least
  // ReduceScratchBytes(n) bytes, 64-byte aligned; src may be overwritten.
  virtual absl::Status ReduceScatterOrdered(std::span<float> dst, std::span<float> src, bool accumulate,
                                            std::span<std::byte> scratch, CallTag tag) = 0;

  // The scratch ReduceScatterOrdered needs for n elements per rank. Large n are worked off in pieces, so this is
  // bounded by size * kReducePieceBytes.
  int64_t ReduceScratchBytes(int64_t n) const { return ReduceScratchBytes(n, size()); }
  static int64_t ReduceScratchBytes(int64_t n, int size);
  static constexpr int64_t kReducePieceBytes = int64_t{4} << 20;

  // src_r[d*n..] of every rank r arrives in dst_d[r*n..]; n = dst.size() / size bytes.
  virtual absl::Status AllToAll(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) = 0;

  // dst of every rank = dst of rank `root`.
  virtual absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) = 0;

  virtual absl::Status Barrier(CallTag tag) = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_COMMUNICATOR_H_
