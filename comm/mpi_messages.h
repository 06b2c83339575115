// Collectives made of point-to-point messages: the transport between machines. Open MPI's own collectives neither add
// in a fixed order nor say whom they wait for, and its blocking calls spin; these poll with back-off.
#ifndef ANGEL_PTM_COMM_MPI_MESSAGES_H_
#define ANGEL_PTM_COMM_MPI_MESSAGES_H_

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/communicator.h"
#include "comm/group.h"
#include "comm/mpi_arenas.h"
#include "comm/wait_options.h"

namespace angel_ptm {

class MpiMessageCommunicator final : public Communicator {
 public:
  // message_tag: the tag of its messages in MPI_COMM_WORLD (mpi_call.h). Two communicators that have two ranks in
  // common never have the same tag. next_group_tag: the lowest tag that no group of this rank has yet; shared by the
  // rank's communicators. arenas: with several machines, lets groups inside one machine use direct reads (mpi_node.h);
  // if null, they do not.
  MpiMessageCommunicator(Group group, int message_tag, std::shared_ptr<int> next_group_tag,
                         std::shared_ptr<MpiArenas> arenas, WaitOptions options, int64_t transfer_bytes_max);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int world_rank(int rank) const override { return group_.world_ranks[static_cast<size_t>(rank)]; }

  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override;
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override;
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override;
  absl::Status Barrier(CallTag tag) override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override;
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override;

 private:
  // A communicator of this rank's group `part` if it has several ranks, all on one machine; otherwise null. Collective.
  absl::StatusOr<std::unique_ptr<Communicator>> SplitInsideMachine(const Group& part, const CallTag& tag);
  // Starts a call: notes what error messages say of it. Returns the error of an earlier call, if any.
  absl::Status Begin(CollectiveVerb verb, const CallTag& tag);
  // Ends the current call with this rank's outcome. An error is final.
  absl::Status End(absl::Status status);

  // Every rank sends n bytes at send + peer * send_stride to each peer and receives n bytes from it at
  // recv + peer * recv_stride. A stride may be 0.
  absl::Status ExchangeWithPeers(const std::byte* send, int64_t send_stride, std::byte* recv, int64_t recv_stride,
                                 int64_t n);
  // A small all-gather in log2(size) rounds: before the round of m = 1, 2, 4, ..., every rank has in dst the m blocks
  // that end with its own (on a ring of ranks); in the round it sends them to the rank m places further on.
  absl::Status GatherInRounds(std::byte* dst, int64_t n);
  // Adds an empty request for a message to or from `peer`.
  void Post(int peer);
  absl::Status Send(const std::byte* from, int peer, int64_t n);
  absl::Status Receive(std::byte* to, int peer, int64_t n);
  // Waits until all posted sends and receives are done.
  absl::Status AwaitMessages();
  absl::Status CheckWait(double waited_seconds) const;
  void DropMessages();

  const Group group_;
  const int rank_, size_;
  const int message_tag_;
  const std::shared_ptr<int> next_group_tag_;
  const std::shared_ptr<MpiArenas> arenas_;
  const WaitOptions options_;
  const int64_t message_bytes_max_;
  CollectiveVerb verb_ = CollectiveVerb::kBarrier;
  CallTag tag_;
  absl::Status failure_;
  std::vector<MPI_Request> requests_;  // posted and not done; [i] is with peers_[i]
  std::vector<int> peers_;             // ranks of the world
  std::vector<int> done_;              // indices that MPI_Testsome returned; sized for the most requests in flight
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_MESSAGES_H_
