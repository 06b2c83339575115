#include <algorithm>
#include <vector>

#include "angel_ptm/plan/passes.h"

namespace angel_ptm {

int64_t PackRegions(Segment& segment, TierKind tier, int64_t base) {
  std::vector<Region*> order;
  for (Region& region : segment.regions) {
    if (!region.permanent && region.range.tier == tier && region.first_step != kNone) order.push_back(&region);
  }
  std::stable_sort(order.begin(), order.end(), [](const Region* a, const Region* b) {
    if (a->range.bytes != b->range.bytes) return a->range.bytes > b->range.bytes;
    return a->first_step < b->first_step;
  });
  const auto align = [](int64_t offset) {
    return (offset + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
  };
  std::vector<const Region*> by_offset;  // placed regions, by address
  int64_t end = base;
  for (Region* region : order) {
    int64_t offset = align(base);
    for (const Region* other : by_offset) {
      if (other->last_step < region->first_step || region->last_step < other->first_step) continue;
      if (offset + region->range.bytes <= other->range.offset) break;
      offset = std::max(offset, align(other->range.offset + other->range.bytes));
    }
    region->range.offset = offset;
    end = std::max(end, offset + region->range.bytes);
    const auto at = std::upper_bound(by_offset.begin(), by_offset.end(), region, [](const Region* a, const Region* b) {
      return a->range.offset < b->range.offset;
    });
    by_offset.insert(at, region);
  }
  return end;
}

}  // namespace angel_ptm
