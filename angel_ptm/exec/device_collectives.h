// Units' collectives between GPUs: the ways in which they may travel, and the interface to whichever was chosen.
#ifndef ANGEL_PTM_EXEC_DEVICE_COLLECTIVES_H_
#define ANGEL_PTM_EXEC_DEVICE_COLLECTIVES_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "comm/nccl/nccl_api.h"
#include "comm/ordered_reduce_scatter.h"
#include "comm/wait_options.h"
#include "kernels/ordered_sum.h"

namespace angel_ptm {

class DeviceCollectives {
 public:
  virtual ~DeviceCollectives() = default;

  // Like Communicator::AllGather and OrderedReduceScatter, but on device addresses; the bits are the same, except with
  // SumsBy::kNccl. Called by the comm lane.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) = 0;
  virtual absl::Status ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                     std::span<std::byte> scratch, CallTag tag) = 0;

  // True: calls put their work on the comm lane's stream, after what is there, and return. False: before a call, what
  // it reads must have been written and what it writes must no longer be read; it returns when the result is on the
  // device.
  virtual bool on_stream() const = 0;
  // What went wrong with work on the stream, known before that work ends for that reason. Any thread.
  virtual absl::Status status() const = 0;
  // Collective, at the end of a run that went well.
  virtual absl::Status Close() = 0;
};

// What a run needs to use NCCL.
struct NcclOffer {
  // Opens the library. Empty: the program knows no NCCL. Called when a run on several GPUs begins.
  std::function<absl::StatusOr<std::shared_ptr<NcclApi>>()> open;
  LaunchDeviceSum sum = nullptr;  // null: the program has no kernel for it
  WaitOptions wait;               // how to wait for peers, as the run's communicators do
};

// Who sums: our own kernel, in rank order, or NCCL, in any order.
enum class SumsBy { kRankOrder, kNccl };

// What a run wants; the same on all ranks, except for `nccl`.
struct CollectivesWish {
  enum class Way { kAuto, kNccl, kStaged };  // kAuto: NCCL, where all ranks have it
  Way way = Way::kStaged;
  NcclOffer nccl;
  SumsBy sums = SumsBy::kRankOrder;  // kNccl is allowed only with Way::kNccl
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_DEVICE_COLLECTIVES_H_
