// The shard pass: which classes of a unit's state are split over the ranks, and where the cuts are. A ZeRO stage is
// nothing else (Rajbhandari et al. 2020): stage 1 splits the moments, 2 the gradients too, 3 the parameters too.
#ifndef ANGEL_PTM_PLAN_SHARD_H_
#define ANGEL_PTM_PLAN_SHARD_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// What persists from step to step for every unit, as one flat fp32 vector each. fp32 parameters are their own master
// copy.
enum class StateClass : uint8_t { kParameters, kGradients, kMoment1, kMoment2 };
inline constexpr int kStateClassCount = 4;
const char* Name(StateClass state_class);  // "parameters", "gradients", "moment1", "moment2"

// Slices are multiples of this many elements (4 KiB): homes pack at 4 KiB, and square-sum groups never straddle a cut.
inline constexpr int64_t kSliceAlignment = 1024;

// True if ranks hold only their slice of this class at this stage.
bool IsSharded(StateClass state_class, int zero_stage);

// How one unit's flat vector is cut: world * slice_elements >= elements, rank r owns [r*slice, (r+1)*slice).
struct UnitSlices {
  int64_t elements = 0;        // before padding
  int64_t slice_elements = 0;  // per rank; the last ranks' slices end in padding, which is always zero
};
UnitSlices SliceUnit(int64_t elements, int world_size);

// Elements a rank stores of this class: the slice, or world * slice_elements.
int64_t StoredElements(const UnitSlices& slices, StateClass state_class, int zero_stage, int world_size);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SHARD_H_
