// Where a rank's steps run: on the host, where a call's work is done when the call returns (host_backend.cc), or on a
// GPU, where a call puts the work on the stream of the step's lane (device_backend.cc). The Executor knows no other
// difference between them.
//
// Addresses are those of the lane's processor; the host does not touch what is on a device tier.
#ifndef ANGEL_PTM_EXEC_LANE_BACKEND_H_
#define ANGEL_PTM_EXEC_LANE_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/executor.h"
#include "comm/ordered_reduce_scatter.h"
#include "kernels/step_block.h"

namespace angel_ptm {

// By unit: the elements without weight decay.
using NoDecay = std::vector<std::vector<ElementSpan>>;

class LaneBackend {
 public:
  virtual ~LaneBackend() = default;

  // What the lane's kernels are bound to. The host may be unable to follow these addresses.
  virtual StepBlock* BlockOf(Lane lane) = 0;
  virtual std::span<const ElementSpan> NoDecayOf(Lane lane, UnitId unit) const = 0;

  // Called while the lanes are idle. `data` is the caller's again when the call returns.
  virtual absl::Status ClearSums(int64_t step) = 0;
  virtual absl::Status WriteInput(TensorId tensor, const void* data) = 0;
  virtual absl::Status ReadOutput(TensorId tensor, void* data) = 0;

  // Called by the comm lane, or while the lanes are idle. ReadSums reads what finished steps have written; kernels see
  // a decision from the return of WriteDecision on.
  virtual absl::Status ReadSums(int64_t step, StepSums* sums) = 0;
  virtual absl::Status WriteDecision(const UpdateDecision& decision) = 0;

  // Called by the step's lane, as are the functions up to Finish. BeginStep and EndStep surround what the lane does for
  // a step, for profilers.
  virtual void BeginStep(const std::string& name) = 0;
  virtual void EndStep() = 0;
  virtual KernelContext ContextOf(Lane lane) = 0;
  virtual absl::Status Copy(Lane lane, std::byte* dst, const std::byte* src, int64_t bytes) = 0;
  virtual absl::Status Clear(Lane lane, std::span<std::byte> memory) = 0;
  virtual absl::Status AllGather(RankGroup of, std::span<std::byte> dst, std::span<const std::byte> src,
                                 CallTag tag) = 0;
  virtual absl::Status ReduceScatter(RankGroup of, const ReducedSlice& dst, const Addends& src, bool accumulate,
                                     std::span<std::byte> scratch, CallTag tag) = 0;
  // Returns when what a lane that is a thread has put on a stream is done.
  virtual absl::Status Finish(Lane lane) = 0;
  // Called by the compute lane, for diagnosis: returns where the host finds what is at `operand` now, which is `room`
  // if the host cannot address `operand`.
  virtual absl::StatusOr<const void*> Show(const void* operand, int64_t bytes, std::vector<std::byte>& room) = 0;
};

// Nothing is owned: graph, plan and the machine's parts must outlive the backend.
std::unique_ptr<LaneBackend> MakeHostBackend(const Plan& plan, const Machine& machine, const NoDecay& no_decay);
// The machine must have a DeviceSide. Takes some device memory in addition to the tier: for the step's block, the
// contents of `no_decay`, scratch for sums of squares, and scratch for gradients of up to 16 MiB. Also takes
// page-locked memory as large as the graph's inputs.
absl::StatusOr<std::unique_ptr<LaneBackend>> MakeDeviceBackend(const Graph& graph, const Plan& plan,
                                                               const Machine& machine, const NoDecay& no_decay);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_LANE_BACKEND_H_
