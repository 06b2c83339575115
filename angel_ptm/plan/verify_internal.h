// The parts of VerifyPlan; nobody else includes this.
#ifndef ANGEL_PTM_PLAN_VERIFY_INTERNAL_H_
#define ANGEL_PTM_PLAN_VERIFY_INTERNAL_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm::verify {

// One segment of the plan under proof.
struct Subject {
  const Graph& graph;
  const Plan& plan;
  const Segment& segment;

  // "compute Matmul", "all-gather layers.0.dense parameters", "move layers.0.self_attn.o.c"
  std::string StepText(const Step& step) const;

  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InternalError(absl::StrCat("plan of graph ", graph.name, ", ", segment.name, ": ", parts...));
  }
  template <typename... Parts>
  absl::Status StepError(int32_t step, const Parts&... parts) const {
    return Error("step ", step, " (", StepText(segment.steps[step]), "): ", parts...);
  }
};

// How many bytes of a unit's state there are and a rank stores, from the layout's slices and stage alone.
struct StateExtent {
  int64_t element_bytes = 0;
  int64_t own_bytes = 0, whole_bytes = 0;  // a rank's slice, the padded vector
  int64_t stored_bytes = 0;                // one of the two

  bool stored_whole() const { return stored_bytes == whole_bytes; }
};
StateExtent ExtentOf(const Layout& layout, UnitId unit, StateId state);
// Whether the state rests in the place of another (StateSpec::takes_place_of) instead of in one of its own.
bool IsGuest(const Layout& layout, StateId state);
// The guest of a unit's state, or kNoState. Frozen units have none.
StateId GuestOf(const Graph& graph, const Layout& layout, UnitId unit, StateId state);
bool HasGradient(const Graph& graph, UnitId unit);
// Of a unit's micro-batch gradient, padding included.
int64_t GradientBytes(const Graph& graph, const Layout& layout, UnitId unit);

// One memory access of a step. Operands that are read and written count as written. Of places in own slices
// (Place::own) the checks know no more than that they lie somewhere in their vector: what is proved holds for all
// ranks.
struct MemoryAccess {
  Place place;
  bool writes;
};
std::vector<MemoryAccess> AccessesOf(const Graph& graph, const Step& step);

// The segments are what their places in the plan say, and every program is a whole step: each micro-batch once and in
// order, behind them the update once, nothing begun twice or left out where one program follows another.
absl::Status CheckPrograms(const Graph& graph, const Plan& plan);
// A lock-free update and its sweeps: who may touch which state beside whom, in what memory.
absl::Status CheckSweeps(const Graph& graph, const Plan& plan);
// Slices and homes follow from the units, the world and the stage; homes and fixed tensors are disjoint and inside
// their arenas.
absl::Status CheckLayout(const Graph& graph, const Plan& plan);
// Places lie inside regions, regions inside arenas; lifetimes cover all uses; regions alive at one time are disjoint.
absl::Status CheckCapacity(const Subject& subject);
// Conflicting accesses are ordered by waits and lane order.
absl::Status CheckOrder(const Subject& subject);
// Counts and bytes of the collectives are what the ZeRO stage demands.
absl::Status CheckCollectives(const Subject& subject);
// Plays the steps in issue order on symbolic memory: residency, completeness, homecoming.
absl::Status CheckReplay(const Subject& subject);

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_INTERNAL_H_
