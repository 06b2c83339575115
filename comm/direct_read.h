// Collectives between ranks that can read each other's memory: threads of one process (local.h) and processes of one
// machine (mpi_node.h). Every call is: post the address of my data, wait until all have, read what I need straight from
// the peers, wait until nobody reads mine. No staging copies.
#ifndef ANGEL_PTM_COMM_DIRECT_READ_H_
#define ANGEL_PTM_COMM_DIRECT_READ_H_

#include <string>

#include "comm/communicator.h"
#include "comm/exchange_board.h"
#include "comm/group.h"
#include "comm/wait_options.h"

namespace angel_ptm {

class DirectReadCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return board_.size(); }
  int world_rank(int rank) const override { return group_.world_ranks[static_cast<size_t>(rank)]; }

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override;
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override;
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override;
  absl::Status Barrier(CallTag tag) override;

 protected:
  DirectReadCommunicator(ExchangeBoard board, Group group, WaitOptions options);

  // Copies `bytes` bytes at `address` of peer's memory.
  virtual absl::Status Read(std::byte* dst, int peer, uint64_t address, int64_t bytes) = 0;
  // True if a peer may crash when memory of a failed call is freed under it: then a failing rank first lets its readers
  // finish.
  virtual bool readers_need_memory() const = 0;

  ExchangeBoard& board() { return board_; }
  const ExchangeBoard& board() const { return board_; }
  const Group& group() const { return group_; }
  const WaitOptions& options() const { return options_; }

 private:
  // Posts the offer and waits for everybody's; afterwards peers' memory may be read until Leave.
  absl::Status Enter(CollectiveVerb verb, const void* address, int64_t bytes, int root, const CallTag& tag);
  // `status` is the outcome of the reads in between.
  absl::Status Leave(CollectiveVerb verb, const CallTag& tag, absl::Status status);
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
