#include "angel_ptm/plan/shard.h"

namespace angel_ptm {

UnitSlices SliceUnit(int64_t elements, int world_size) {
  const int64_t per_rank = (elements + world_size - 1) / world_size;
  return {elements, (per_rank + kSliceAlignment - 1) / kSliceAlignment * kSliceAlignment, world_size};
}

}  // namespace angel_ptm
