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
// * Where peers can read an operand where it lies they do, without a copy between. Threads read all of each other's
//   memory, processes of one machine that of arenas (MakeArena): what their calls send should lie there if it is large.
//   Other operands go through a small buffer in shared memory, a copy more and a wait per piece (mpi_node.h).
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

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/world_shape.h"

namespace angel_ptm {

// Names the call in error messages and in the sequence check, e.g. {"gather layer.3.experts", 17}. `what` must outlive
// the call.
struct CallTag {
  std::string_view what;
  int64_t step = -1;
};

// A block of `bytes` bytes of each rank in each of `rows` rows: that of rank r at data + row * row_stride + r * stride.
template <typename Byte>
struct RankBlocks {
  // One row of equal parts, one after another.
  static RankBlocks Parts(std::span<Byte> all, int size) {
    const int64_t bytes = static_cast<int64_t>(all.size()) / size;
    return {all.data(), bytes, bytes};
  }

  Byte* At(int rank, int row = 0) const { return data + row * row_stride + rank * stride; }

  Byte* data = nullptr;
  int64_t stride = 0;
  int64_t bytes = 0;
  int rows = 1;
  int64_t row_stride = 0;
};
using SendBlocks = RankBlocks<const std::byte>;  // what a rank sends to each rank
using GatheredBlocks = RankBlocks<std::byte>;    // where each rank's own block goes

// Is shown bytes [begin, begin + bytes) of one block of every rank in a row: blocks[r] is where those of rank r begin.
using BlockReader =
    absl::FunctionRef<void(int row, int64_t begin, int64_t bytes, std::span<const std::byte* const> blocks)>;

struct CommunicatorLevels;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Which rank of the world the rank `rank` of this communicator is.
  virtual int world_rank(int rank) const = 0;

  // dst[r*n .. (r+1)*n) = src of rank r, n = src.size() bytes. src may be its own place in dst; otherwise no overlap.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag);

  // Every rank's own blocks are in their places, and the others' arrive in theirs. Bytes, strides and rows are the same
  // on all ranks.
  virtual absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) = 0;

  // The block for rank d of every rank r arrives in dst_d[r*n..]; n = src.bytes, dst.size() == size * n, one row.
  // Strides and n are the same on all ranks.
  virtual absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) = 0;

  // An all-to-all whose blocks are read instead of placed: `read` sees every byte of the blocks for this rank once, of
  // each row from first to last, all of them at a time where peers' memory is read in place, else pieces that arrived
  // in `scratch`: at least 64 bytes per rank, 64-byte aligned, as large on all ranks. src must not change before the
  // call ends. Nobody but this rank reads its own block, and that only through `read`.
  virtual absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag);

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

  // Collective over a communicator of the world's size, for start-up, while no other call of the rank's is under way:
  // `bytes` of zeroed memory of this rank's own (as many as it likes, 0 too), 4 KiB aligned, touched by `threads`
  // threads, that peers read in place in calls of this communicator and of its relatives by Split. Null where the
  // transport has no use for it: then any memory does. kResourceExhausted or kUnavailable on all ranks where one cannot
  // have it. It lives until all ranks have dropped their pointers and make another, or have no more of those
  // communicators.
  virtual absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag);

  // Null, or the two levels of a world of nodes (nodes.h): then sums over this communicator are of a node's ranks
  // first.
  virtual const CommunicatorLevels* levels() const { return nullptr; }

  // Memory that calls use: a message that came late, of a call that failed, may still be written to it. Freed after the
  // communicator.
  virtual void KeepAlive(std::shared_ptr<const void> memory) { kept_.push_back(std::move(memory)); }

 protected:
  // [size] places for a BlockReader's argument.
  std::span<const std::byte*> BlockPlaces();

 private:
  std::vector<const std::byte*> block_places_;
  std::vector<std::shared_ptr<const void>> kept_;
};

// Where ranks are nodes of neighbours, each as many: rank r is in node r / n at place r % n.
struct CommunicatorLevels {
  Communicator* inside = nullptr;  // this rank's node
  Communicator* across = nullptr;  // the ranks at this rank's place in every node
};

inline WorldShape WorldOf(const Communicator& communicator) {
  const CommunicatorLevels* const levels = communicator.levels();
  return {communicator.size(), levels == nullptr ? 0 : levels->inside->size()};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_COMMUNICATOR_H_
