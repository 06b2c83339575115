// The collectives of units' data between GPUs, put on a stream. AllGather and Exchange only move bytes; SumBlocks has
// NCCL add.
//
// NCCL waits for a lost peer forever, on the host and on the device, so nothing here blocks: calls are polled, and a
// caller that waits for work on the stream calls Look meanwhile. Any failure ends the communicator: NCCL is told to
// abort, the work on the stream ends without having moved anything, and everybody learns the reason, from status()
// first of all.
#ifndef ANGEL_PTM_COMM_NCCL_NCCL_COMMUNICATOR_H_
#define ANGEL_PTM_COMM_NCCL_NCCL_COMMUNICATOR_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "comm/nccl/nccl_api.h"
#include "comm/wait_options.h"

namespace angel_ptm {

class NcclCommunicator;

// A rank's communicators on its device. They are aborted together: NCCL then frees memory, which waits for all that is
// under way on the device, and so for peers that a call of another communicator waits for there.
class NcclSiblings {
 public:
  void Add(NcclCommunicator* communicator);
  void Remove(NcclCommunicator* communicator);
  void Abort(const absl::Status& reason);

 private:
  std::mutex mutex_;  // before a communicator's
  std::vector<NcclCommunicator*> all_;
};

class NcclCommunicator {
 public:
  // Collective over `peers`, the world or a group of it, through which the ranks meet and which is not used afterwards.
  // Uses the thread's current device; each rank needs its own. Errors: kUnavailable when a peer does not come within
  // `wait`, otherwise NCCL's error in one sentence.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Create(std::shared_ptr<NcclApi> api, Communicator& peers,
                                                                  const WaitOptions& wait,
                                                                  std::shared_ptr<NcclSiblings> siblings);
  // Aborts unless the communicator was closed: a run that ends must not leave peers waiting in a call with this rank.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  // Collective, at the end of a run that went well, when everything that was put on streams is done.
  absl::Status Close();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Buffers are device memory and belong to the call until the stream has done it. One thread at a time. AllGather's
  // contract is Communicator's. Exchange is an all-to-all of rows: with n = src.bytes, what rank r sends arrives at
  // dst[(row * size + r) * n ..]. It does not copy this rank's own blocks: dst[(row * size + rank) * n ..] is not
  // written.
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, void* stream, CallTag tag);
  absl::Status Exchange(std::span<std::byte> dst, const SendBlocks& src, void* stream, CallTag tag);
  // dst = the sum over ranks of their blocks for this rank, src.bytes bytes of elements of `type`. NCCL adds, so the
  // bits are those of no other transport.
  absl::Status SumBlocks(std::byte* dst, const SendBlocks& src, DType type, void* stream, CallTag tag);

  // Asks NCCL for errors that came after a call. If waited_seconds is set, also asks `wait` whether this rank, having
  // waited for so long, should go on, which counts as a sign of life. Whatever is wrong ends the communicator and is
  // returned. Any thread.
  absl::Status Look(std::optional<double> waited_seconds);
  // OK, or what ended the communicator: set before anything on a stream ends for that reason. Any thread.
  absl::Status status() const;
  // Ends the communicator and its siblings. The first reason is kept. May return while NCCL is still aborting. Any
  // thread.
  void Abort(const absl::Status& reason);

 private:
  friend class NcclSiblings;
  NcclCommunicator(std::shared_ptr<NcclApi> api, Communicator& peers, const WaitOptions& wait,
                   std::shared_ptr<NcclSiblings> siblings);

  // Makes the calls as one group and waits until all of them are on the stream.
  absl::Status Put(absl::FunctionRef<NcclCode()> calls, CallTag tag);
  // Polls until the call that returned `code` is done.
  absl::Status AwaitCall(NcclCode code, std::string_view what);
  // NCCL's state of comm_, which must not be null. Under mutex_.
  NcclCode AskState();
  // Aborts this communicator without its siblings.
  void AbortAlone(const absl::Status& reason);
  // Aborts and returns the reason that is kept.
  absl::Status Fail(const absl::Status& reason);
  // Why comm_ is null.
  absl::Status Ended() const;
  // OK if a rank that has waited for so long should go on.
  absl::Status MayWait(double waited_seconds, std::string_view what) const;
  absl::Status ErrorOf(NcclCode code, std::string_view what);

  const std::shared_ptr<NcclApi> api_;
  const int rank_, size_;
  const std::string name_;  // "rank 1 (one of 3)": the rank in the world, the size of the group
  const WaitOptions wait_;
  const std::shared_ptr<NcclSiblings> siblings_;
  std::atomic<bool> failed_ = false;
  absl::Status failure_;  // written before failed_ becomes true, constant afterwards
  std::mutex mutex_;      // guards comm_ and calls on it
  void* comm_ = nullptr;  // null when it was aborted or closed
  std::thread aborting_;  // started under mutex_
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NCCL_NCCL_COMMUNICATOR_H_
