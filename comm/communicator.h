// The interface to other ranks: a few verbs, all of them blocking. The executor calls them on its comm lane, so their
// progress never depends on the compute lane (Open MPI's non-blocking collectives do not advance by themselves). Only
// one thread at a time may be in a Communicator: threads other than the comm lane's may use it only while the lanes are
// idle, between the executor's calls. Different communicators of a rank (e.g. a group and the communicator it was split
// from) may be used at the same time.
//
// Contract of every implementation:
// * All ranks call the same verbs with the same sizes in the same order (law 4); CheckedCommunicator checks it.
// * A transport moves bytes and computes nothing. Sums are computed by our own code in rank order
//   (ordered_reduce_scatter.h), so every transport gives the same bits.
// * Sizes are 64-bit; transports split transfers beyond 2^31 - 1 elements themselves.
// * A verb allocates nothing after its first call (libraries excepted); the caller provides scratch.
// * Peers read an operand in place, without an intermediate copy, where they can. Threads can read all of each other's
//   memory; processes of one machine can read each other's arenas (MakeArena), so the large operands that they send
//   should lie in an arena. Other operands go through a small staging buffer in shared memory, which costs another copy
//   and a wait per piece (mpi_node.h).
// * Errors (absl::Status): kUnavailable when a peer died or was silent for longer than the timeout, with a sentence
//   that names this rank, the peers it waits for and `what` of the current call; kInternal when the transport fails.
//   Ranks are numbered as in the world, in groups too. After an error the communicator is unusable, and the buffers of
//   the failed call must live as long as the communicator (KeepAlive). An error ends the run: transports that can do so
//   (direct reads) make it end the calls of all communicators of the world.
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

// Blocks of `bytes` bytes, one per rank in each of `rows` rows. Rank r's block in a row begins at data + row *
// row_stride + r * stride.
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

// Receives bytes [begin, begin + bytes) of every rank's block in a row: blocks[r] points to byte `begin` of rank r's
// block.
using BlockReader =
    absl::FunctionRef<void(int row, int64_t begin, int64_t bytes, std::span<const std::byte* const> blocks)>;

struct CommunicatorLevels;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The world rank of this communicator's rank `rank`.
  virtual int world_rank(int rank) const = 0;

  // dst[r*n .. (r+1)*n) = src of rank r, n = src.size() bytes. src may be this rank's own place in dst; otherwise src
  // and dst must not overlap.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag);

  // An all-gather in which every rank's own blocks already lie in their places in `all`; the other ranks' blocks arrive
  // in theirs. Block sizes, strides and rows are the same on all ranks.
  virtual absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) = 0;

  // Rank r's block for rank d arrives at dst_d[r*n..]; n = src.bytes, dst.size() == size * n, and src has one row.
  // Strides and n are the same on all ranks.
  virtual absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) = 0;

  // An all-to-all whose blocks are read instead of placed. `read` sees every byte of the blocks for this rank exactly
  // once, each row's from first to last: whole blocks where peers' memory is read in place, otherwise pieces that
  // arrived in `scratch` or in a staging buffer. scratch: at least 64 bytes per rank, 64-byte aligned, of the same size
  // on all ranks. src must not change before the call ends. Only this rank reads its own block, and only through
  // `read`.
  virtual absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag);

  // Copies dst of rank `root` to dst of every rank.
  virtual absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) = 0;

  virtual absl::Status Barrier(CallTag tag) = 0;

  // Collective over this communicator: the ranks that pass the same color get a communicator of their own, a group, in
  // which they keep their order. If all ranks pass the same color, the group is a duplicate of this communicator. Calls
  // on the group and on this communicator are independent, so both may be in flight at the same time on different
  // threads of a rank. The group waits with the same WaitOptions, so the loss of a rank, inside the group or outside,
  // ends its waits too. A group can be split again. For start-up: a rank may be in only one Split at a time, whatever
  // the communicator.
  //
  // The caller owns the group, which may live shorter or longer than this communicator but must not outlive the world
  // (MpiWorld). Destroying it tells the peers that this rank has ended in the group, not in the world. It has a
  // KeepAlive of its own.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) = 0;

  // Collective over a communicator of the world's size, for start-up, while no other call of this rank is in flight.
  // Returns `bytes` bytes of zeroed memory of this rank's own (each rank chooses its size, which may be 0), 4 KiB
  // aligned and touched by `threads` threads, which peers read in place in calls of this communicator and of
  // communicators related to it by Split. Returns null where the transport has no use for an arena; any memory serves
  // there. Fails with kResourceExhausted or kUnavailable on all ranks if one of them cannot have its memory. The memory
  // lives until all ranks have dropped their pointers and make another arena, or until those communicators are gone.
  virtual absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag);

  // The two levels of a world of nodes (nodes.h), or null. With levels, sums over this communicator first add each
  // node's ranks.
  virtual const CommunicatorLevels* levels() const { return nullptr; }

  // Keeps memory that calls use alive until the communicator is destroyed: a late message of a failed call may still be
  // written to it.
  virtual void KeepAlive(std::shared_ptr<const void> memory) { kept_.push_back(std::move(memory)); }

 protected:
  // size() pointers to pass to a BlockReader as `blocks`.
  std::span<const std::byte*> BlockPlaces();

 private:
  std::vector<const std::byte*> block_places_;
  std::vector<std::shared_ptr<const void>> kept_;
};

// For a world in which consecutive ranks form nodes of equal size n: rank r is in node r / n at place r % n.
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
