#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "angel_ptm/plan/passes.h"

namespace angel_ptm {
namespace {

// Limits on the cost of improving a placement.
constexpr size_t kRoundsMax = 50, kPlacementsMax = 15'000;
// Up to this many regions, each may keep a list of the regions alive at the same time.
constexpr size_t kFew = 2048;
// Regions that live longer than this many steps hang in a stack if they can.
constexpr int32_t kLongLife = 256;

// The first aligned offset after the region if the region starts at `offset`.
int64_t EndOf(const Region& region, int64_t offset) {
  return AlignedUp(region.range.tier, offset + region.range.bytes);
}

bool ByAddress(const Region* a, const Region* b) {
  return a->range.offset != b->range.offset ? a->range.offset < b->range.offset : a < b;
}

// Placed regions by time. Short-lived regions are in one list per stretch of steps, so that a region is compared only
// with its contemporaries; long-lived regions are in a single list. All lists are in address order.
class Timetable {
 public:
  explicit Timetable(size_t steps) : stretches_(steps / kStretch + 1) {}

  // The lowest offset from `base` on at which the region overlaps no placed contemporary.
  int64_t FirstFit(const Region& region, int64_t base) {
    int64_t offset = base;
    for (const Region* other : Contemporaries(region)) {
      if (offset + region.range.bytes <= other->range.offset) break;
      offset = std::max(offset, EndOf(*other, other->range.offset));
    }
    return offset;
  }

  void Add(const Region* region) {
    const int32_t first = region->first_step / kStretch, last = region->last_step / kStretch;
    if (last - first > kShortLife) return Insert(long_lived_, region);
    for (int32_t s = first; s <= last; ++s) Insert(stretches_[s], region);
  }

 private:
  static constexpr int32_t kStretch = 32;   // steps
  static constexpr int32_t kShortLife = 8;  // stretches

  // The placed regions alive at the same time as `region`, in address order.
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
        // A region that lives in several stretches counts only in the first that is visited.
        if (std::max(first, other->first_step / kStretch) == s && alive(other)) short_lived_.push_back(other);
      }
    }
    if (first != last) std::sort(short_lived_.begin(), short_lived_.end(), ByAddress);
    const auto middle = static_cast<int64_t>(found_.size());
    found_.insert(found_.end(), short_lived_.begin(), short_lived_.end());
    std::inplace_merge(found_.begin(), found_.begin() + middle, found_.end(), ByAddress);
    return found_;
  }

  static void Insert(std::vector<const Region*>& placed, const Region* region) {
    placed.insert(std::upper_bound(placed.begin(), placed.end(), region, ByAddress), region);
  }

  std::vector<std::vector<const Region*>> stretches_;
  std::vector<const Region*> long_lived_, short_lived_, found_;
};

// The same for few regions that are placed repeatedly: which regions are alive at the same time is computed only once.
class Overlaps {
 public:
  // `regions`: all regions that will be placed. `first`: the lowest of the pointers, all of which point into one array.
  Overlaps(const std::vector<Region*>& regions, const Region* first) : first_(first) {
    std::vector<const Region*> by_time(regions.begin(), regions.end());
    std::sort(by_time.begin(), by_time.end(),
              [](const Region* a, const Region* b) { return a->first_step < b->first_step; });
    const size_t count = *std::max_element(regions.begin(), regions.end()) - first + 1;
    rows_.resize(count);
    places_.resize(count);
    for (size_t i = 0; i < by_time.size(); ++i) {
      for (size_t j = i + 1; j < by_time.size() && by_time[j]->first_step <= by_time[i]->last_step; ++j) {
        rows_[by_time[i] - first].push_back(static_cast<int32_t>(by_time[j] - first));
        rows_[by_time[j] - first].push_back(static_cast<int32_t>(by_time[i] - first));
      }
    }
  }

  void TakeAllOut() { ++round_; }

  int64_t FirstFit(const Region& region, int64_t base) {
    std::vector<int32_t>& row = rows_[&region - first_];
    // Insertion sort: rows stay in address order from round to round, except for regions that moved.
    for (size_t i = 1; i < row.size(); ++i) {
      const int32_t moved = row[i];
      size_t to = i;
      for (; to > 0 && places_[moved].begin < places_[row[to - 1]].begin; --to) row[to] = row[to - 1];
      row[to] = moved;
    }
    int64_t offset = base;
    for (const int32_t other : row) {
      const Place& place = places_[other];
      if (place.round != round_) continue;
      if (offset + region.range.bytes <= place.begin) break;
      offset = std::max(offset, place.end);
    }
    return offset;
  }

  void Add(const Region* region) {
    places_[region - first_] = {region->range.offset, EndOf(*region, region->range.offset), round_};
  }

 private:
  struct Place {
    int64_t begin = 0, end = 0;
    int round = -1;  // if not the current round: not placed yet
  };

  const Region* const first_;
  std::vector<std::vector<int32_t>> rows_;  // by region, of regions
  std::vector<Place> places_;
  int round_ = 0;
};

// Activations that wait for the backward pass: long-lived regions that are all alive at one step. They hang from the
// ceiling, whose address is not known yet; the region that ends last is nearest to the ceiling. So the forward pass
// adds regions at the lower end, and the backward pass removes them from there (except for the order inside a layer).
class Stack {
 public:
  // Moves the regions that hang in the stack out of `regions`.
  Stack(std::vector<Region*>& regions, size_t steps) : depth_(steps, 0) {
    std::vector<int64_t> live(steps + 1, 0);
    const auto is_long = [](const Region* r) { return r->last_step - r->first_step >= kLongLife; };
    for (const Region* region : regions) {
      if (!is_long(region)) continue;
      live[region->first_step] += region->range.bytes;
      live[region->last_step + 1] -= region->range.bytes;
    }
    for (size_t i = 1; i < live.size(); ++i) live[i] += live[i - 1];
    turn_ = static_cast<int32_t>(std::max_element(live.begin(), live.end()) - live.begin());
    const auto rest = std::stable_partition(regions.begin(), regions.end(), [&](const Region* r) {
      return !is_long(r) || r->first_step > turn_ || r->last_step < turn_;
    });
    hanging_.assign(rest, regions.end());
    regions.erase(rest, regions.end());
    std::stable_sort(hanging_.begin(), hanging_.end(),
                     [](const Region* a, const Region* b) { return a->last_step > b->last_step; });
    int64_t depth = 0;
    for (const Region* region : hanging_) {
      depth += AlignedUp(region->range.tier, region->range.bytes);
      depths_.push_back(depth);
      depth_[region->first_step] = std::max(depth_[region->first_step], depth);
      depth_[region->last_step] = std::max(depth_[region->last_step], depth);
    }
    for (int32_t i = 1; i <= turn_; ++i) depth_[i] = std::max(depth_[i], depth_[i - 1]);
    for (int32_t i = static_cast<int32_t>(steps) - 2; i >= turn_; --i) depth_[i] = std::max(depth_[i], depth_[i + 1]);
  }

  // The largest extent of the stack below the ceiling while the region lives.
  int64_t DepthDuring(const Region& region) const {
    return depth_[region.last_step < turn_ ? region.last_step : std::max(region.first_step, turn_)];
  }
  int64_t depth() const { return depths_.empty() ? 0 : depths_.back(); }

  void HangFrom(int64_t ceiling) const {
    for (size_t i = 0; i < hanging_.size(); ++i) hanging_[i]->range.offset = ceiling - depths_[i];
  }

 private:
  int32_t turn_ = 0;  // the step at which all hanging regions live
  std::vector<Region*> hanging_;
  std::vector<int64_t> depths_;  // of the lower end of each hanging region
  std::vector<int64_t> depth_;   // by step
};

// The order in which regions choose their addresses. None is always best: largest first suits many short lives among
// few long ones; longest first keeps activations of the backward pass stacked; area is a compromise.
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

// Places regions first fit in the given order from `base`, which is aligned, around the regions in `placed` (a
// Timetable or Overlaps). Returns the address that the ceiling must have.
template <typename Placed>
int64_t PlaceInOrder(const std::vector<Region*>& order, const Stack& stack, int64_t base, Placed& placed) {
  int64_t ceiling = base + stack.depth();
  for (Region* region : order) {
    region->range.offset = placed.FirstFit(*region, base);
    ceiling = std::max(ceiling, EndOf(*region, region->range.offset) + stack.DepthDuring(*region));
    placed.Add(region);
  }
  return ceiling;
}

// The same for regions in the order of their first steps, as memory would be allocated and freed at run time. This
// suffices where there are few distinct sizes, as among the pages of an update.
int64_t PlaceByTime(const std::vector<Region*>& order, const Stack& stack, int64_t base) {
  std::vector<const Region*> alive;  // by address
  int64_t ceiling = base + stack.depth();
  int32_t now = kNone;
  for (Region* region : order) {
    if (region->first_step != now) {
      now = region->first_step;
      std::erase_if(alive, [now](const Region* other) { return other->last_step < now; });
    }
    int64_t offset = base;
    auto next = alive.begin();
    for (; next != alive.end() && offset + region->range.bytes > (*next)->range.offset; ++next) {
      offset = EndOf(**next, (*next)->range.offset);
    }
    region->range.offset = offset;
    alive.insert(next, region);
    ceiling = std::max(ceiling, EndOf(*region, offset) + stack.DepthDuring(*region));
  }
  return ceiling;
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

// Improves the best placement in rounds: regions that touch the stack or the ceiling choose earlier in the next round
// (squeaky wheel optimisation, Joslin & Clements 1999).
void Improve(Best& best, const Stack& stack, size_t steps, int64_t base, int64_t good_end) {
  const int rounds = static_cast<int>(std::min<size_t>(kRoundsMax, kPlacementsMax / best.order.size()));
  std::optional<Overlaps> overlaps;
  if (best.order.size() <= kFew) overlaps.emplace(best.order, *std::min_element(best.order.begin(), best.order.end()));
  std::vector<Region*> order = best.order;
  best.Restore();
  int64_t end = best.end;
  for (int round = 0; round < rounds && best.end > good_end; ++round) {
    for (size_t i = 1; i < order.size(); ++i) {
      if (EndOf(*order[i], order[i]->range.offset) + stack.DepthDuring(*order[i]) < end) continue;
      const size_t target = round % 2 == 0 ? i / 2 : 0;
      std::rotate(order.begin() + target, order.begin() + i, order.begin() + i + 1);
    }
    if (overlaps.has_value()) {
      overlaps->TakeAllOut();
      end = PlaceInOrder(order, stack, base, *overlaps);
    } else {
      Timetable timetable(steps);
      end = PlaceInOrder(order, stack, base, timetable);
    }
    best.Offer(end, order);
  }
}

}  // namespace

int64_t PackRegions(Segment& segment, TierKind tier, int64_t base, int64_t limit) {
  const size_t steps = segment.steps.size();
  std::vector<Region*> regions;
  for (Region& region : segment.regions) {
    if (!region.permanent && region.range.tier == tier && region.first_step != kNone) regions.push_back(&region);
  }
  if (regions.empty()) return base;
  base = AlignedUp(tier, base);
  const std::vector<int64_t> live = LiveBytes(segment, tier);
  const int64_t least = *std::max_element(live.begin(), live.end());
  const int64_t good_end = std::clamp(limit, base + least + least / 100, base + least + least / 25);
  const Stack stack(regions, steps);
  Best best;
  Sort(regions, Order::kFirst);
  best.Offer(PlaceByTime(regions, stack, base), regions);
  for (Order order : {Order::kLargest, Order::kLongest, Order::kArea}) {
    if (best.end <= good_end) break;
    Sort(regions, order);
    Timetable timetable(steps);
    best.Offer(PlaceInOrder(regions, stack, base, timetable), regions);
  }
  const bool hopeless = best.end - least / 12 > limit;
  if (best.end > good_end && !hopeless && !regions.empty()) Improve(best, stack, steps, base, good_end);
  best.Restore();
  stack.HangFrom(best.end);
  return best.end;
}

}  // namespace angel_ptm
