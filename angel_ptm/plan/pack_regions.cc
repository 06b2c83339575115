#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "angel_ptm/plan/passes.h"

namespace angel_ptm {
namespace {

// What improving a placement may cost.
constexpr size_t kRoundsMax = 40, kPlacementsMax = 30'000;

bool ByAddress(const Region* a, const Region* b) {
  return a->range.offset != b->range.offset ? a->range.offset < b->range.offset : a < b;
}

// Placed regions by time: those that live for a short while in a list per stretch of steps, so that a region is
// compared with its contemporaries only; the others, alive through most of the segment, in one list. All lists in
// address order.
class Timetable {
 public:
  explicit Timetable(size_t steps) : stretches_(steps / kStretch + 1) {}

  void Add(const Region* region) {
    const int32_t first = region->first_step / kStretch, last = region->last_step / kStretch;
    if (last - first > kShortLife) return Insert(long_lived_, region);
    for (int32_t s = first; s <= last; ++s) Insert(stretches_[s], region);
  }

  // Placed regions alive at the same time as `region`, by address.
  const std::vector<const Region*>& Contemporaries(const Region& region) {
    found_.clear();
    const auto alive = [&](const Region* other) {
      return other->last_step >= region.first_step && region.last_step >= other->first_step;
    };
    std::copy_if(long_lived_.begin(), long_lived_.end(), std::back_inserter(found_), alive);
    const int32_t first = region.first_step / kStretch, last = region.last_step / kStretch;
    short_lived_.clear();
    for (int32_t s = first; s <= last; ++s) {
      for (const Region* other : stretches_[s]) {
        // One that lives in several stretches counts in the first of them that is looked at.
        if (std::max(first, other->first_step / kStretch) == s && alive(other)) short_lived_.push_back(other);
      }
    }
    if (first != last) std::sort(short_lived_.begin(), short_lived_.end(), ByAddress);
    const auto middle = static_cast<int64_t>(found_.size());
    found_.insert(found_.end(), short_lived_.begin(), short_lived_.end());
    std::inplace_merge(found_.begin(), found_.begin() + middle, found_.end(), ByAddress);
    return found_;
  }

 private:
  static constexpr int32_t kStretch = 32;   // steps
  static constexpr int32_t kShortLife = 8;  // stretches

  static void Insert(std::vector<const Region*>& placed, const Region* region) {
    placed.insert(std::upper_bound(placed.begin(), placed.end(), region, ByAddress), region);
  }

  std::vector<std::vector<const Region*>> stretches_;
  std::vector<const Region*> long_lived_, short_lived_, found_;
};

int64_t Align(int64_t offset) { return (offset + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment; }

// In which order regions choose their addresses. None wins always: large ones first is best for many short lives among
// few long ones, long lives first keeps activations of the backward pass stacked, area is between the two.
enum class Order { kLargest, kLongest, kArea, kFirst };

void Sort(std::vector<Region*>& regions, Order order) {
  const auto key = [order](const Region& r) -> std::pair<double, int64_t> {
    const double steps = r.last_step - r.first_step + 1, bytes = static_cast<double>(r.range.bytes);
    switch (order) {
      case Order::kLargest:
        return {-bytes, r.first_step};
      case Order::kLongest:
        return {-steps, -r.range.bytes};
      case Order::kArea:
        return {-steps * bytes, r.first_step};
      case Order::kFirst:
        return {r.first_step, -r.range.bytes};
    }
    return {};
  };
  std::stable_sort(regions.begin(), regions.end(), [&](const Region* a, const Region* b) { return key(*a) < key(*b); });
}

// First fit in the given order. Returns the end of the highest region.
int64_t PlaceInOrder(const std::vector<Region*>& order, size_t steps, int64_t base) {
  Timetable timetable(steps);
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

// The best placement so far.
struct Best {
  int64_t end = 0;
  std::vector<Region*> order;
  std::vector<int64_t> offsets;  // by order

  bool Offer(int64_t new_end, const std::vector<Region*>& new_order) {
    if (end != 0 && new_end >= end) return false;
    end = new_end;
    order = new_order;
    offsets.clear();
    for (const Region* region : order) offsets.push_back(region->range.offset);
    return true;
  }
  void Restore() const {
    for (size_t i = 0; i < order.size(); ++i) order[i]->range.offset = offsets[i];
  }
};

// The regions at the top choose earlier in the next round (squeaky wheel optimisation, Joslin & Clements 1999).
void Improve(Best& best, size_t steps, int64_t base, int64_t good_end) {
  const int rounds = static_cast<int>(std::min<size_t>(kRoundsMax, kPlacementsMax / best.order.size()));
  std::vector<Region*> order = best.order;
  best.Restore();
  int64_t end = best.end;
  for (int round = 0; round < rounds && best.end > good_end; ++round) {
    for (size_t i = 1; i < order.size(); ++i) {
      if (order[i]->range.offset + order[i]->range.bytes < end) continue;
      const size_t target = round % 2 == 0 ? i / 2 : 0;
      std::rotate(order.begin() + target, order.begin() + i, order.begin() + i + 1);
    }
    end = PlaceInOrder(order, steps, base);
    best.Offer(end, order);
  }
}

}  // namespace

int64_t PackRegions(Segment& segment, TierKind tier, int64_t base, int64_t limit) {
  std::vector<Region*> regions;
  for (Region& region : segment.regions) {
    if (!region.permanent && region.range.tier == tier && region.first_step != kNone) regions.push_back(&region);
  }
  if (regions.empty()) return base;
  const std::vector<int64_t> live = LiveBytes(segment, tier);
  const int64_t least = *std::max_element(live.begin(), live.end());
  const int64_t good_end = base + least + least / 25;
  Best best;
  for (Order order : {Order::kLargest, Order::kLongest, Order::kArea, Order::kFirst}) {
    std::vector<Region*> sorted = regions;
    Sort(sorted, order);
    best.Offer(PlaceInOrder(sorted, segment.steps.size(), base), sorted);
    if (best.end <= good_end) break;
  }
  const bool hopeless = best.end - least / 20 > limit;
  if (best.end > good_end && !hopeless) Improve(best, segment.steps.size(), base, good_end);
  best.Restore();
  return best.end;
}

}  // namespace angel_ptm
