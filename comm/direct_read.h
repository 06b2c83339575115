// Collectives between ranks that can read each other's memory: threads of one process (local.h) and processes of one
// machine (mpi_node.h). In every call a rank posts where its data lies, waits until all ranks have done so, reads its
// peers' data in place, and waits until no peer reads its own any more. Only operands that peers cannot reach are
// copied: they are staged, piece by piece, in a buffer that peers can reach, and all ranks then go through the call in
// such pieces.
#ifndef ANGEL_PTM_COMM_DIRECT_READ_H_
#define ANGEL_PTM_COMM_DIRECT_READ_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "comm/communicator.h"
#include "comm/exchange_board.h"
#include "comm/group.h"
#include "comm/mapped_arenas.h"
#include "comm/wait_options.h"

namespace angel_ptm {

class DirectReadCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return board_.size(); }
  int world_rank(int rank) const override { return group_.world_ranks[static_cast<size_t>(rank)]; }

  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override;
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override;
  absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag) override;
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override;
  absl::Status Barrier(CallTag tag) override;

 protected:
  DirectReadCommunicator(ExchangeBoard board, Group group, WaitOptions options);

  // Where peers find this rank's operand; kNoArena if they cannot reach it.
  virtual OperandPlace Find(const std::byte* data, int64_t bytes) const = 0;
  // The address of a peer's operand in this rank's address space.
  virtual const std::byte* AddressOf(int peer, const OperandPlace& place) const = 0;
  // A rank's staging buffer, which its peers can reach: of the same size on all ranks, 64-byte aligned, with at least
  // 128 bytes for every rank of the group. Empty if Find finds every operand.
  virtual std::span<std::byte> Staging(int rank) = 0;
  // True if a peer may crash when the memory of a failed call is freed while the peer reads it. A failing rank then
  // first lets its readers finish.
  virtual bool readers_need_memory() const = 0;

  ExchangeBoard& board() { return board_; }
  const ExchangeBoard& board() const { return board_; }
  const Group& group() const { return group_; }
  const WaitOptions& options() const { return options_; }

 private:
  // What a rank offers: `count` blocks in each row. The rank posts their total size in bytes, which must be the same on
  // all ranks.
  struct Operand {
    int64_t blocks_in_all() const { return int64_t{rows} * count; }
    const std::byte* Block(int row, int block) const { return data + row * row_stride + block * stride; }
    int64_t extent() const { return (rows - 1) * row_stride + (count - 1) * stride + bytes; }

    const std::byte* data = nullptr;
    int64_t stride = 0, bytes = 0;
    int count = 0;
    int rows = 1;
    int64_t row_stride = 0;
    bool read = true;  // whether peers read it; if not, only its size counts
  };
  // Reads bytes [begin, begin + bytes) of the blocks; called while they may be read.
  using Take = absl::FunctionRef<void(int64_t begin, int64_t bytes)>;

  // Performs a whole call. `take` is called for every piece; the pieces make up a block, and there is only one unless
  // some rank's operand is staged.
  absl::Status Exchange(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag, Take take);
  // To be called from `take`: where the piece that starts at `begin` of block `block` of `rank` in a row lies.
  const std::byte* Block(int rank, const Operand& mine, int row, int block, int64_t begin);

  // Posts this rank's offer and waits for all others. Afterwards peers' memory may be read until the next AwaitAll.
  absl::Status Enter(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag);
  // Arrives and waits until all ranks have arrived.
  absl::Status AwaitAll(CollectiveVerb verb, const CallTag& tag);
  // Copies the piece that starts at `begin` to the staging buffer: of every block, as much of the remaining `bytes` as
  // fits.
  void Stage(const Operand& mine, int64_t begin, int64_t bytes);
  // Where the piece of a block that starts at `begin` is staged. Successive pieces alternate between the buffer's
  // halves.
  std::byte* StagedBlock(int rank, const Operand& mine, int row, int block, int64_t begin);
  absl::Status CheckOffers(CollectiveVerb verb, int64_t bytes, int root) const;
  // Ends this communicator: no peer will wait for it, and its later calls fail.
  absl::Status GiveUp(CollectiveVerb verb, const CallTag& tag, const absl::Status& reason);

  ExchangeBoard board_;
  const Group group_;
  const int rank_;
  const WaitOptions options_;
  uint32_t arrivals_ = 0;
  absl::Status failure_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_DIRECT_READ_H_
