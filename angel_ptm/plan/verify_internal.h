// The parts of VerifyPlan. Only the verify_* files and verify.cc include this.
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

// The bytes of a unit's state, in total and as stored by a rank, derived from the layout's slices and stage alone.
struct StateExtent {
  int64_t element_bytes = 0;
  int64_t own_bytes = 0, whole_bytes = 0;  // a rank's slice, the padded vector
  int64_t stored_bytes = 0;                // one of the two

  bool stored_whole() const { return stored_bytes == whole_bytes; }
};
StateExtent ExtentOf(const Layout& layout, UnitId unit, StateId state);
// Whether the state rests in the place of another state (StateSpec::takes_place_of) instead of one of its own.
bool IsGuest(const Layout& layout, StateId state);
// The state that rests in the place of this one, or kNoState. Frozen units have no guests.
StateId GuestOf(const Graph& graph, const Layout& layout, UnitId unit, StateId state);
bool HasGradient(const Graph& graph, UnitId unit);
// Bytes of a unit's micro-batch gradient, padding included.
int64_t GradientBytes(const Graph& graph, const Layout& layout, UnitId unit);

// One memory access of a step. Operands that are both read and written count as written. About a place in the own slice
// (Place::own) the checks know only that it lies somewhere in its vector, so that the proof holds for all ranks.
struct MemoryAccess {
  Place place;
  bool writes;
};
std::vector<MemoryAccess> AccessesOf(const Graph& graph, const Step& step);

// Segments contain what their index in the plan says. Every program is a whole step: each micro-batch once and in
// order, followed by the update once, with nothing begun twice or left out where one program follows another.
absl::Status CheckPrograms(const Graph& graph, const Plan& plan);
// A lock-free update and its sweeps: which states and memory may be touched concurrently by sweeps and programs.
absl::Status CheckSweeps(const Graph& graph, const Plan& plan);
// Slices and homes follow from the units, the world and the stage. Homes and fixed tensors are disjoint and inside
// their arenas.
absl::Status CheckLayout(const Graph& graph, const Plan& plan);
// Places lie inside regions and regions inside arenas. Lifetimes cover all uses. Regions alive at one time are
// disjoint.
absl::Status CheckCapacity(const Subject& subject);
// Conflicting accesses are ordered by waits and lane order.
absl::Status CheckOrder(const Subject& subject);
// The numbers and bytes of collectives are what the ZeRO stage demands.
absl::Status CheckCollectives(const Subject& subject);
// Plays the steps in issue order on symbolic memory: residency, completeness, homecoming.
absl::Status CheckReplay(const Subject& subject);

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_INTERNAL_H_
