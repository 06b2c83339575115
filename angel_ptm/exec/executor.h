// Plays Plans: issues a Plan's steps to the rank's four lanes (compute, comm, copy-in, copy-out), and holds no policy
// of its own. Everything is bound to addresses when the Executor is made; playing a segment allocates nothing.
//
// Thread safety: one caller at a time. The Executors of a rank (training, evaluation) share its tiers, communicator and
// lanes; they are played one after the other and their Plans share a Layout.
#ifndef ANGEL_PTM_EXEC_EXECUTOR_H_
#define ANGEL_PTM_EXEC_EXECUTOR_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/fixed_point.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/memory/tier.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/plan/planner.h"
#include "comm/communicator.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// AdamW's constants; what changes from step to step is in AdamWScalars.
struct AdamWConstants {
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
};

// Told what a rank is doing, before every step, from the lanes' threads, and with an empty activity when all steps of a
// pass are done: cheap, does not block, does not allocate.
using PublishActivity = std::function<void(int64_t step, std::string_view activity)>;

// The machine as one rank sees it. Not owned; must outlive the Executor.
struct Machine {
  Tier* device = nullptr;
  Tier* host = nullptr;
  Communicator* communicator = nullptr;
  const KernelTable* kernels = nullptr;
  Lanes* lanes = nullptr;
  int threads = 1;          // of the compute lane
  PublishActivity publish;  // may be empty
};

// What every rank learns at the end of a step's gradient norm: the same numbers in the same order on all ranks.
inline constexpr int kStepPayload = 4;
struct StepExchange {
  FixedPointSum squares;                          // of the whole gradient, all ranks
  std::array<double, kStepPayload> payload = {};  // summed over ranks in rank order
};
struct UpdateDecision {
  bool apply = true;  // false: this step changes nothing
  AdamWScalars scalars;
};
// Pure function of its argument and of state that is equal on all ranks; runs on the comm lane.
using DecideUpdate = std::function<UpdateDecision(const StepExchange&)>;

// A tensor in which a non-finite number was found: a parameter that `op` read, or what `op` made of finite parameters.
struct NonFinite {
  OpId op = kNone;
  TensorId tensor = kNone;
};
// "parameter embed_tokens, read by forward Embedding" or "final_norm.y, written by forward AddRmsNorm".
std::string Describe(const Graph& graph, const NonFinite& found);

class Executor {
 public:
  // Binds `plan` (of `graph`) to the machine. Both must outlive the Executor. The tiers must be as large as the Plan's
  // arenas.
  static absl::StatusOr<std::unique_ptr<Executor>> Create(const Graph& graph, const Plan& plan, const Machine& machine,
                                                          const AdamWConstants& adamw);
  virtual ~Executor() = default;

  // Plays the micro-step on the inputs in place. With accumulate the reduced gradients add to what the homes hold.
  // `step` tags errors.
  virtual absl::Status RunMicroStep(bool accumulate, int64_t step) = 0;
  // The same, and looks for the first op that produced a non-finite number: all earlier ops' results were finite, so it
  // is the op's own doing unless one of its parameters was not finite, which is then what is found. A bad parameter
  // that spoils no result is not. Slower; for diagnosis.
  virtual absl::StatusOr<NonFinite> FindNonFinite(bool accumulate, int64_t step) = 0;
  // Plays the update segment. `payload` of every rank is summed and handed to `decide` with the gradient's square sum.
  virtual absl::Status RunUpdate(int64_t step, const std::array<double, kStepPayload>& payload,
                                 const DecideUpdate& decide) = 0;

  // Inputs, outputs and caches, between segments.
  virtual void WriteInput(TensorId tensor, const void* data) = 0;
  virtual void ReadOutput(TensorId tensor, void* data) const = 0;
};

// This rank's own slice of a unit's state, as it lies at home: `begin` is its first element in the unit's flat vector.
struct StateView {
  UnitId unit = kNone;
  StateClass state_class = StateClass::kParameters;
  int64_t begin = 0;
  std::span<float> own_slice;  // a part of `stored` if the class is not sharded
  std::span<float> stored;     // all this rank keeps; first element at unit element 0 if not sharded, else at `begin`
};
std::vector<StateView> StateViews(const Layout& layout, const Machine& machine);

// What the CPU backend and a transport of `world_size` ranks need, for MakePlan. kInvalidArgument naming the tensor,
// what the backend takes and what it got, if it does not run one of the graph's ops.
absl::StatusOr<BackendFacts> CpuFacts(const Graph& graph, int world_size, int threads);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_EXECUTOR_H_
