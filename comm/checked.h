// Checks law 4, "one sequence": wraps any Communicator and reports, by name, ranks that plan or issue different
// collectives.
#ifndef ANGEL_PTM_COMM_CHECKED_H_
#define ANGEL_PTM_COMM_CHECKED_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/communicator.h"

namespace angel_ptm {

// What is compared during training. kHistory: nothing per call; a running hash of the calls is kept for
// VerifySameHistory. kEveryCall: each verb first exchanges a header with its name and size, which turns a mismatch into
// an error instead of a hang or wrong data, at the cost of one small all-gather per call. Training uses kHistory; tests
// of law 4 also use kEveryCall.
enum class SequenceCheck { kHistory, kEveryCall };

class CheckedCommunicator final : public Communicator {
 public:
  // A raw `inner` is not owned and must outlive this object. Either way, `inner` must be used only through this object.
  CheckedCommunicator(Communicator* inner, SequenceCheck check);
  CheckedCommunicator(std::unique_ptr<Communicator> inner, SequenceCheck check);

  // To be called before step 0: all ranks pass the collectives that they are going to issue. If these differ, returns
  // kFailedPrecondition with the same sentence on all ranks, which says, for example:
  //   rank 0 plans #17 all-gather layer.3.experts 12.0 MiB, rank 2 plans #17 reduce-scatter layer.3.dense 3.00 MiB
  absl::Status VerifySameSequence(std::span<const CollectiveEntry> planned);

  // Verifies that all ranks have issued the same calls so far (e.g. at every checkpoint); kFailedPrecondition
  // otherwise.
  absl::Status VerifySameHistory(CallTag tag);

  int64_t calls() const { return history_->calls; }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int world_rank(int rank) const override { return inner_->world_rank(rank); }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override;
  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override;
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override;
  absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag) override;
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override;
  absl::Status Barrier(CallTag tag) override;
  // The group's calls are compared among its own ranks, in the same way as this communicator's.
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override;
  absl::StatusOr<std::unique_ptr<CheckedCommunicator>> SplitChecked(int color, CallTag tag);
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override;
  // Calls on the levels count in this communicator's history, too.
  const CommunicatorLevels* levels() const override { return levels_.inside == nullptr ? nullptr : &levels_; }
  void KeepAlive(std::shared_ptr<const void> memory) override { inner_->KeepAlive(std::move(memory)); }

 private:
  struct Header;
  struct History {
    uint64_t hash = 0;  // of (verb, what, bytes, root) of every call so far, in order
    int64_t calls = 0;
  };

  CheckedCommunicator(std::unique_ptr<Communicator> owned, Communicator* inner, SequenceCheck check,
                      History* of_another);

  // Adds the call to the history; with kEveryCall compares it with the peers'.
  absl::Status Admit(CollectiveVerb verb, int64_t bytes, int root, const CallTag& tag);
  // Collective: sets all_[r] to rank r's header.
  absl::Status ExchangeHeaders(const Header& mine, const CallTag& tag);
  // Collective: broadcasts the hashes of rank 0's planned entries and returns the index of this rank's first entry that
  // differs from them, or -1.
  absl::StatusOr<int64_t> FirstDifference(std::span<const CollectiveEntry> planned);

  // "rank 3", numbered as in the world.
  std::string NameOf(int rank) const;

  const std::unique_ptr<Communicator> owned_;  // null if the caller owns inner_
  Communicator* const inner_;
  const SequenceCheck check_;
  History own_history_;
  History* const history_;      // own_history_, or the history of the communicator whose level this is
  std::vector<std::byte> all_;  // [size] headers
  std::unique_ptr<CheckedCommunicator> inside_, across_;
  CommunicatorLevels levels_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_CHECKED_H_
