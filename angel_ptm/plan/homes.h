// Homes: the tier and address at which each state of each unit rests between uses, and everything else that has a fixed
// address for the whole Plan. Included only by planner.cc and, for bounds, by cost.cc.
#ifndef ANGEL_PTM_PLAN_HOMES_H_
#define ANGEL_PTM_PLAN_HOMES_H_

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/plan/planner.h"

namespace angel_ptm {

// The states that may have their home on any tier, in decreasing order of the traffic saved per byte. Of two states
// that share a place, only the one that owns the place is listed.
std::vector<std::pair<UnitId, StateId>> CachingOrder(const Graph& graph, const Layout& layout);

// How many homes, in caching order, are on the device, and how many on the device or the host. The others are in the
// file.
struct HomeCounts {
  size_t on_device = 0, on_host_or_device = std::numeric_limits<size_t>::max();

  TierKind TierOf(size_t home) const {
    if (home < on_device) return TierKind::kDevice;
    return home < on_host_or_device ? TierKind::kHost : TierKind::kFile;
  }
};

// The part of the Layout that is known before homes are placed: the slices of every unit and the ranks that share them.
Layout LayoutWithoutHomes(const Graph& graph, const WorldShape& world, int zero_stage);
Layout MakeLayout(const Graph& graph, const PlanOptions& options, const HomeCounts& counts);

// Assigns device addresses from `begin` on, which is the end of the homes, to inputs, outputs and caches. Returns the
// end.
int64_t PlaceFixed(const Graph& graph, int64_t begin, std::vector<MemoryRange>& fixed);

// kInvalidArgument if pages are so small that a Plan would need too many steps to move them.
absl::Status CheckPageCount(const Graph& graph, const Layout& layout);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_HOMES_H_
