// Where state rests between its uses, a tier and an address for every unit's states, and what else has one address for
// the whole Plan. Nobody but planner.cc includes this, and cost.cc for bounds.
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

// What may be at home on any tier, most traffic saved per byte first; of two states that share a place the one whose it
// is.
std::vector<std::pair<UnitId, StateId>> CachingOrder(const Graph& graph, const Layout& layout);

// How many homes rest on the device, and how many on the device or the host, in caching order; the others in the file.
struct HomeCounts {
  size_t on_device = 0, on_host_or_device = std::numeric_limits<size_t>::max();

  TierKind TierOf(size_t home) const {
    if (home < on_device) return TierKind::kDevice;
    return home < on_host_or_device ? TierKind::kHost : TierKind::kFile;
  }
};

// What is known before: who shares which parts of units.
Layout LayoutWithoutHomes(const Graph& graph, const WorldShape& world, int zero_stage);
Layout MakeLayout(const Graph& graph, const PlanOptions& options, const HomeCounts& counts);

// Addresses of inputs, outputs and caches on the device, from `begin` on: behind the homes. Returns the end.
int64_t PlaceFixed(const Graph& graph, int64_t begin, std::vector<MemoryRange>& fixed);

// kInvalidArgument if pages are so small that a Plan would have too many steps that move them.
absl::Status CheckPageCount(const Graph& graph, const Layout& layout);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_HOMES_H_
