// The two verbs of units' data between GPUs, put on a stream: NCCL moves bytes, and adds nothing.
//
// NCCL waits for a lost peer for ever, on the host and on the device, so nothing here blocks: calls are polled, and who
// waits for what was put on the stream asks Look meanwhile. A failure of any kind ends the communicator: NCCL is told
// to abort, what is on the stream ends without having moved anything, and everybody is told why, first of all status().
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
  // Collective over `peers`, the world or a group of it, through which the ranks meet and which may go afterwards. On
  // the thread's current device, one of its own for each rank. Errors: kUnavailable when a peer does not come within
  // `wait`, else NCCL's in one sentence.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Create(std::shared_ptr<NcclApi> api, Communicator& peers,
                                                                  const WaitOptions& wait,
                                                                  std::shared_ptr<NcclSiblings> siblings);
  // Aborts, unless it was closed: peers in a call with this rank must not be left to wait for it by a run that ends.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  // Collective, at the end of a run that went well; all that was put on streams is done.
  absl::Status Close();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Device memory, which is the call's until the stream has done it; one thread at a time. The contracts are
  // Communicator's, but that the exchange is of rows, dst[(row * size + r) * n ..] being what rank r sends, and leaves
  // this rank's own blocks where they are: dst[(row * size + rank) * n ..] is not written.
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, void* stream, CallTag tag);
  absl::Status Exchange(std::span<std::byte> dst, const SendBlocks& src, void* stream, CallTag tag);
  // dst = the sum over ranks of their block for this rank, src.bytes of elements of `type`, by NCCL: its bits are those
  // of no other transport.
  absl::Status SumBlocks(std::byte* dst, const SendBlocks& src, DType type, void* stream, CallTag tag);

  // Asks NCCL for errors that came after a call, and `wait` whether to go on where this rank, a sign of its life, has
  // waited so long; not where it says nothing. What is wrong is the end of the communicator. Any thread.
  absl::Status Look(std::optional<double> waited_seconds);
  // OK, or what ended it: known before anything on a stream ends for that reason. Any thread.
  absl::Status status() const;
  // Its siblings too; the first reason stays. Returns while NCCL aborts. Any thread.
  void Abort(const absl::Status& reason);

 private:
  friend class NcclSiblings;
  NcclCommunicator(std::shared_ptr<NcclApi> api, Communicator& peers, const WaitOptions& wait,
                   std::shared_ptr<NcclSiblings> siblings);

  // Makes the calls as one group and waits until all of them are on the stream.
  absl::Status Put(absl::FunctionRef<NcclCode()> calls, CallTag tag);
  // Polls until the call that returned `code` is done.
  absl::Status AwaitCall(NcclCode code, std::string_view what);
  // Under mutex_, of a communicator that there is.
  NcclCode AskState();
  // Without its siblings.
  void AbortAlone(const absl::Status& reason);
  // Aborts; the reason that stays.
  absl::Status Fail(const absl::Status& reason);
  // Why there is none any more.
  absl::Status Ended() const;
  // Whether a rank that has waited so long should go on.
  absl::Status MayWait(double waited_seconds, std::string_view what) const;
  absl::Status ErrorOf(NcclCode code, std::string_view what);

  const std::shared_ptr<NcclApi> api_;
  const int rank_, size_;
  const std::string name_;  // "rank 1 (one of 3)": as in the world, of a group
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
