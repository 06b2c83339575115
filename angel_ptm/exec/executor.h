// Plays Plans: issues a Plan's steps to the rank's lanes (plan/plan.h, Lane), and holds no policy of its
// own. Everything is bound to addresses when the Executor is made; playing a segment allocates nothing.
//
// Thread safety: one caller at a time. The Executors of a rank (training, evaluation) share its tiers, communicator and
// lanes; they are played one after the other and their Plans share a Layout.
#ifndef ANGEL_PTM_EXEC_EXECUTOR_H_
#define ANGEL_PTM_EXEC_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/exec/non_finite.h"
#include "angel_ptm/exec/trace.h"
#include "angel_ptm/memory/file_tier.h"
#include "angel_ptm/memory/tier.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/plan/planner.h"
#include "comm/communicator.h"
#include "comm/mesh_groups.h"
#include "kernels/kernels.h"
#include "kernels/ops/adamw.h"
#include "kernels/step_block.h"

namespace angel_ptm {

// Is told what a rank is doing, before every step, from the lanes' threads, and with an empty activity when all steps
// of a segment are done. Must be cheap, and must neither block nor allocate.
using PublishActivity = std::function<void(int64_t step, std::string_view activity)>;

class DeviceSide;
class LockFreeUpdater;

// The machine as one rank sees it. Not owned; must outlive the Executor.
struct Machine {
  Tier* device = nullptr;
  Tier* host = nullptr;
  // Both connect all ranks, and the Executor calls them on its comm lane only. communicator: all-gathers and
  // reduce-scatters of units. control: what ranks tell each other, here at a step's norm; others may use it between
  // segments. The two may be the same object.
  Communicator* communicator = nullptr;
  Communicator* control = nullptr;
  const KernelTable* kernels = nullptr;
  Lanes* lanes = nullptr;
  int threads = 1;          // of the compute lane, and of the host-compute lane if it has kernels of its own
  PublishActivity publish;  // may be empty
  // The kernels of the host-compute lane, which works on state that rests on the host. Null: `kernels` are the host's.
  // Then the compute lane has the host's cores, and the host-compute lane is one thread beside it.
  const KernelTable* host_kernels = nullptr;
  Trace* trace = nullptr;    // null: nothing is traced; of one Executor only
  FileTier* file = nullptr;  // null: no state rests in a file
  // Null: `kernels` run on the host. Otherwise `device` is this GPU's arena, `lanes` have its streams, `kernels` put
  // their work on them, host_kernels is not null and `host` is page-locked.
  DeviceSide* device_side = nullptr;
  // Groups of the communicator's ranks, called as the communicator is. Null unless experts are split.
  const MeshGroups* groups = nullptr;
};
// Null if the machine has no such tier.
Tier* TierOf(const Machine& machine, TierKind kind);
// kInternal if a region of the segment does not lie within its tier.
absl::Status CheckRegions(const Segment& segment, const Machine& machine);

// What every rank learns at the end of a step's gradient norm: the same numbers on all ranks.
struct StepExchange {
  StepSums sums;     // of all ranks, in rank order
  double votes = 0;  // StepHooks::vote, summed over ranks
};

// What the caller does between the segments of a program: `feed` and `vote` are called on the calling thread while the
// lanes are idle.
struct StepHooks {
  // Fills the inputs with micro-batch `micro` of `step`; outputs still hold those of the previous micro-batch. An error
  // ends the program: the step has then changed no state but gradients.
  std::function<absl::Status(int64_t step, int64_t micro)> feed;
  // Called when the step's micro-batches are done and their outputs are in place, before the update. An error prevents
  // the update and the rest of the program. May be empty: no vote.
  std::function<absl::StatusOr<double>()> vote;
  // A pure function of its argument and of state that is equal on all ranks; runs on the comm lane. For training only.
  std::function<UpdateDecision(const StepExchange&)> decide;
};

class Executor {
 public:
  // Binds `plan` (of `graph`), the same on all ranks, to the machine and its communicator's rank. Both must outlive the
  // Executor. The tiers must be as large as the Plan's arenas.
  static absl::StatusOr<std::unique_ptr<Executor>> Create(const Graph& graph, const Plan& plan, const Machine& machine,
                                                          const AdamWConstants& adamw);
  virtual ~Executor() = default;

  // Plays one of the Plan's programs: a step of `micro_batches` micro-batches (1 where gradients take the place of
  // parameters), or a pass over them. `step` tags errors. If the program already computes for the next step, that is
  // fed as the next step's micro-batch 0.
  virtual absl::Status Run(const Program& program, int64_t step, int64_t micro_batches, const StepHooks& hooks) = 0;
  // Plays one micro-batch, on the inputs in place, as the only one of its step.
  virtual absl::Status RunMicroStep(int64_t step) = 0;
  // The same, and looks for the first op that produced a non-finite number. All earlier ops' results were finite, so
  // the op itself is the cause, unless one of its parameters was not finite; then that parameter is what is found. A
  // bad parameter that spoils no result is not found. Slower; for diagnosis. Where the last micro-batch's gradients
  // have taken the parameters' place, it uses the parameters that the last update left.
  virtual absl::StatusOr<NonFinite> FindNonFinite(int64_t step) = 0;
  // The sums over the rank's micro-batches of this step or pass so far; of the newest two steps only.
  virtual const StepSums& SumsOf(int64_t step) const = 0;

  // Null unless the plan has sweeps. Must be begun before the first step; Run tells it about steps.
  virtual LockFreeUpdater* updater() = 0;

  // For inputs, outputs and caches, between micro-batches. The next program returns what went wrong on a device.
  virtual void WriteInput(TensorId tensor, const void* data) = 0;
  virtual void ReadOutput(TensorId tensor, void* data) const = 0;
};

// A unit's state as this rank keeps it at home. A state that shares another's place (Layout::shares_place) has no view,
// nor has one whose home several units share (LockFreeRows::shared).
struct StateView {
  UnitId unit = kNone;
  StateId state = kParameterState;
  DType dtype = DType::kFloat32;
  int64_t begin = 0;            // of the rank's own slice, in elements of the unit's flat vector
  int64_t slice_elements = 0;   // of the own slice
  int64_t stored_begin = 0;     // of all that is kept (Layout::home_begin)
  int64_t stored_elements = 0;  // of all that is kept
  std::byte* data = nullptr;    // all that is kept; null: it rests where the host cannot address it
  Tier* tier = nullptr;         // where it rests, from byte `offset`; not needed with `data`
  int64_t offset = 0;

  // Read and write elements [at, at + values.size()) of all that is kept. Write rounds to the state's type. Thread-safe
  // for disjoint ranges. Errors: the tier's.
  absl::Status Read(int64_t at, std::span<float> values) const;
  absl::Status Write(int64_t at, std::span<const float> values) const;
  // Reads the bytes of elements [at, at + n).
  absl::Status ReadBytes(int64_t at, std::span<std::byte> bytes) const;

  // Only where the host can address it (Tier::host_data):
  std::span<std::byte> bytes() const {
    APTM_CHECK(data != nullptr || stored_elements == 0, "state ", state, " is not in memory");
    return {data, static_cast<size_t>(stored_elements * SizeOf(dtype))};
  }
  // All that is kept, and the rank's own slice. For fp32 states only.
  std::span<float> stored() const { return Floats(0, stored_elements); }
  std::span<float> own_slice() const { return Floats(begin - stored_begin, slice_elements); }

 private:
  std::span<float> Floats(int64_t first, int64_t count) const {
    APTM_CHECK(dtype == DType::kFloat32, "state ", state, " is ", Name(dtype));
    return {reinterpret_cast<float*>(bytes().data()) + first, static_cast<size_t>(count)};
  }
};
std::vector<StateView> StateViews(const Layout& layout, const Machine& machine);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_EXECUTOR_H_
