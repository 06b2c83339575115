// The shard pass: which states of a unit are split over the ranks, and where. A ZeRO stage means nothing else
// (Rajbhandari et al. 2020): StateSpec::sharded_from_stage is the lowest stage at which a state is split.
#ifndef ANGEL_PTM_PLAN_SHARD_H_
#define ANGEL_PTM_PLAN_SHARD_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/model/state.h"

namespace angel_ptm {

// Homes and pages start at multiples of this many bytes on every tier.
inline constexpr int64_t kHomeAlignment = 4096;

// Whether ranks hold only their slice of this state at this stage.
inline bool IsSharded(const StateSpec& state, int zero_stage) { return zero_stage >= state.sharded_from_stage; }

// Whether `state` rests in the place of StateSpec::takes_place_of. That requires that a rank stores the same part of
// both: its slice. (If a rank keeps whole parameters, only its own slice of them would be free, at a different offset
// on every rank.)
inline bool SharesPlace(const std::vector<StateSpec>& states, StateId state, int world_size, int zero_stage) {
  const StateId other = states[state].takes_place_of;
  if (other == kNoState) return false;
  return world_size == 1 || (IsSharded(states[state], zero_stage) && IsSharded(states[other], zero_stage));
}

// How one unit's flat vector is cut: world * slice_elements >= elements, rank r owns [r*slice, (r+1)*slice).
struct UnitSlices {
  int64_t elements = 0;        // before padding
  int64_t slice_elements = 0;  // per rank; the last ranks' slices end in padding, which is always zero
  // Number of ranks that use the same elements: all ranks or, for split experts, the ranks of one place (WorldShape).
  // Their slices form one contiguous part of the vector, which is whole experts; these ranks never hold more of it.
  int replicas = 1;
};
UnitSlices SliceUnit(int64_t elements, int world_size);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SHARD_H_
