// Units' collectives between GPUs: how they may travel, and the door to whichever way was chosen.
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

  // As Communicator::AllGather and OrderedReduceScatter, on device addresses and, but for SumsBy::kNccl, with their
  // bits; by the comm lane.
  virtual absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) = 0;
  virtual absl::Status ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                     std::span<std::byte> scratch, CallTag tag) = 0;

  // True: calls put their work on the comm lane's stream, behind what is there, and return. False: what they read was
  // written, what they write is no longer read, and they return when it is on the device.
  virtual bool on_stream() const = 0;
  // What went wrong with work on the stream, known before that work ends for that reason. Any thread.
  virtual absl::Status status() const = 0;
  // Collective, at the end of a run that went well.
  virtual absl::Status Close() = 0;
};

// What NCCL takes.
struct NcclOffer {
  // Opens the library; empty: the program knows none. Called when a run on several GPUs begins.
  std::function<absl::StatusOr<std::shared_ptr<NcclApi>>()> open;
  LaunchDeviceSum sum = nullptr;  // null: the program has no kernel for it
  WaitOptions wait;               // for peers, as the run's communicators do
};

// Who sums: a kernel of ours, in rank order, or NCCL as it likes.
enum class SumsBy { kRankOrder, kNccl };

// What a run wants; the same on all ranks but for `nccl`.
struct CollectivesWish {
  enum class Way { kAuto, kNccl, kStaged };  // kAuto: NCCL, where all ranks have it
  Way way = Way::kStaged;
  NcclOffer nccl;
  SumsBy sums = SumsBy::kRankOrder;  // kNccl goes with Way::kNccl alone
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_DEVICE_COLLECTIVES_H_
