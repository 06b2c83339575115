#include <algorithm>
#include <vector>

#include "angel_ptm/plan/passes.h"

namespace angel_ptm {
namespace {

// Placed regions by time: a list per stretch of kStretch steps, so that a region is compared with its contemporaries
// only.
class Timetable {
 public:
  explicit Timetable(size_t steps) : stretches_(steps / kStretch + 1) {}

  void Add(const Region* region) {
    for (int32_t s = region->first_step / kStretch; s <= region->last_step / kStretch; ++s) {
      stretches_[s].push_back(region);
    }
  }

  // Placed regions alive at the same time as `region`, by address.
  const std::vector<const Region*>& Contemporaries(const Region& region) {
    found_.clear();
    for (int32_t s = region.first_step / kStretch; s <= region.last_step / kStretch; ++s) {
      for (const Region* other : stretches_[s]) {
        if (other->last_step >= region.first_step && region.last_step >= other->first_step) found_.push_back(other);
      }
    }
    std::sort(found_.begin(), found_.end(), [](const Region* a, const Region* b) {
      if (a->range.offset != b->range.offset) return a->range.offset < b->range.offset;
      return a < b;
    });
    found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
    return found_;
  }

 private:
  static constexpr int32_t kStretch = 32;
  std::vector<std::vector<const Region*>> stretches_;
  std::vector<const Region*> found_;
};

int64_t Align(int64_t offset) { return (offset + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment; }

}  // namespace

int64_t PackRegions(Segment& segment, TierKind tier, int64_t base) {
  std::vector<Region*> order;
  for (Region& region : segment.regions) {
    if (!region.permanent && region.range.tier == tier && region.first_step != kNone) order.push_back(&region);
  }
  std::stable_sort(order.begin(), order.end(), [](const Region* a, const Region* b) {
    if (a->range.bytes != b->range.bytes) return a->range.bytes > b->range.bytes;
    return a->first_step < b->first_step;
  });
  Timetable timetable(segment.steps.size());
  int64_t end = base;
  for (Region* region : order) {
    int64_t offset = Align(base);
    for (const Region* other : timetable.Contemporaries(*region)) {
      if (offset + region->range.bytes <= other->range.offset) break;
      offset = std::max(offset, Align(other->range.offset + other->range.bytes));
    }
    region->range.offset = offset;
    end = std::max(end, offset + region->range.bytes);
    timetable.Add(region);
  }
  return end;
}

}  // namespace angel_ptm
