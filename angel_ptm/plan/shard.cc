#include "angel_ptm/plan/shard.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

const char* Name(StateClass state_class) {
  switch (state_class) {
    case StateClass::kParameters:
      return "parameters";
    case StateClass::kGradients:
      return "gradients";
    case StateClass::kMoment1:
      return "moment1";
    case StateClass::kMoment2:
      return "moment2";
  }
  APTM_CHECK(false, static_cast<int>(state_class));
}

bool IsSharded(StateClass state_class, int zero_stage) {
  switch (state_class) {
    case StateClass::kParameters:
      return zero_stage >= 3;
    case StateClass::kGradients:
      return zero_stage >= 2;
    case StateClass::kMoment1:
    case StateClass::kMoment2:
      return zero_stage >= 1;
  }
  APTM_CHECK(false, static_cast<int>(state_class));
}

UnitSlices SliceUnit(int64_t elements, int world_size) {
  const int64_t per_rank = (elements + world_size - 1) / world_size;
  return {elements, (per_rank + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment};
}

int64_t StoredElements(const UnitSlices& slices, StateClass state_class, int zero_stage, int world_size) {
  return IsSharded(state_class, zero_stage) ? slices.slice_elements : slices.slice_elements * world_size;
}

}  // namespace angel_ptm
