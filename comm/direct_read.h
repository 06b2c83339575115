// Collectives between ranks that can read each other's memory: threads of one process (local.h) and processes of one
// machine (mpi_node.h). Every call is: post where my data lies, wait until all have, read what I need where it lies,
// wait until nobody reads mine. No staging copies, but of operands that peers cannot reach: those are put piece by
// piece into a buffer that they can, and all ranks go through the call in such pieces.
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

  // Where this rank's operand lies for its peers; kNoArena if they cannot reach it.
  virtual OperandPlace Find(const std::byte* data, int64_t bytes) const = 0;
  // A peer's operand, in this rank's address space.
  virtual const std::byte* AddressOf(int peer, const OperandPlace& place) const = 0;
  // The buffer of a rank that its peers can reach: the same size on all, 64-byte aligned, at least 128 bytes for every
  // rank of the group. Empty if Find finds everything.
  virtual std::span<std::byte> Staging(int rank) = 0;
  // True if a peer may crash when memory of a failed call is freed under it: then a failing rank first lets its readers
  // finish.
  virtual bool readers_need_memory() const = 0;

  ExchangeBoard& board() { return board_; }
  const ExchangeBoard& board() const { return board_; }
  const Group& group() const { return group_; }
  const WaitOptions& options() const { return options_; }

 private:
  // What a rank offers: `count` blocks in each row. It posts their bytes, which must be the same on all ranks.
  struct Operand {
    int64_t blocks_in_all() const { return int64_t{rows} * count; }
    const std::byte* Block(int row, int block) const { return data + row * row_stride + block * stride; }
    int64_t extent() const { return (rows - 1) * row_stride + (count - 1) * stride + bytes; }

    const std::byte* data = nullptr;
    int64_t stride = 0, bytes = 0;
    int count = 0;
    int rows = 1;
    int64_t row_stride = 0;
    bool read = true;  // by peers; else only its size counts
  };
  // Reads bytes [begin, begin + bytes) of blocks while they may be read.
  using Take = absl::FunctionRef<void(int64_t begin, int64_t bytes)>;

  // A whole call: `take` is called for pieces that make up a block; one unless a rank's operand is staged.
  absl::Status Exchange(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag, Take take);
  // While `take` is called: where rank's block `block` of a row of the current call lies, from the piece's first byte
  // on.
  const std::byte* Block(int rank, const Operand& mine, int row, int block, int64_t begin);

  // Posts the offer and waits for everybody's; afterwards peers' memory may be read until the next AwaitAll.
  absl::Status Enter(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag);
  // Arrives and waits until all have.
  absl::Status AwaitAll(CollectiveVerb verb, const CallTag& tag);
  // Puts the piece from `begin` on into the staging buffer: as much of the remaining `bytes` of every block as fits.
  void Stage(const Operand& mine, int64_t begin, int64_t bytes);
  // Of the piece that starts at `begin`, where it is staged. Pieces take turns in the buffer's halves.
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
