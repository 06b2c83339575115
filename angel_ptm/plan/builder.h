// Regions and steps common to all segments. Only the segment builders include this file.
#ifndef ANGEL_PTM_PLAN_BUILDER_H_
#define ANGEL_PTM_PLAN_BUILDER_H_

#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {

class Builder {
 public:
  // `sweep`: the unit whose sweep is being built, or kNone.
  Builder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId sweep = kNone);

  Segment Take() {
    UpdateLifetimes(segment_);
    return std::move(segment_);
  }

 protected:
  // The purpose of a new region of a unit's state.
  struct Purpose {
    std::string_view label;
    MemoryClass memory_class = MemoryClass::kStaging;
  };

  int32_t AddRegion(Region region) {
    segment_.regions.push_back(std::move(region));
    return static_cast<int32_t>(segment_.regions.size()) - 1;
  }
  // Adds a region on `tier` for `count` elements of a unit's state.
  Place AddUnitRegion(UnitId unit, StateId s, int64_t count, TierKind tier, const Purpose& purpose);

  TierKind TierOf(const Place& place) const { return segment_.regions[place.region].range.tier; }
  TierKind HomeTier(UnitId unit, StateId s) const { return layout_.home(unit, s).range.tier; }
  // Elements [begin, begin + count) of a unit's flat vector or, if `own`, of the rank's own slice of it. The numbers
  // are the same on all ranks.
  struct Elements {
    int64_t begin = 0, count = 0;
    bool own = false;
  };
  Elements Whole(UnitId unit) const { return {0, layout_.whole_elements(unit)}; }
  // With a single replica, the own slice is the whole vector.
  Elements OwnSlice(UnitId unit) const { return {0, layout_.slices[unit].slice_elements, layout_.replicas(unit) > 1}; }

  // The place of these elements in their home.
  Place HomePlace(UnitId unit, StateId s, const Elements& e) const;
  // The place of these elements in a region that holds the unit's whole vector.
  Place Part(const Place& whole, StateId s, const Elements& e) const {
    return {whole.region, layout_.bytes(s, e.begin), layout_.bytes(s, e.count), e.own};
  }

  // Makes the elements at `at` available on `tier` and returns their place: `at` itself if it is on that tier, else a
  // new region to which they are moved. Return is the inverse: it moves the elements at `at` back to `home` if Fetch
  // moved them.
  Place Fetch(UnitId unit, StateId s, const Place& at, const Elements& e, TierKind tier, const Purpose& purpose,
              When when = When::kAlways);
  // Like Fetch, for elements that will be overwritten: nothing is moved.
  Place Room(UnitId unit, StateId s, const Place& home, const Elements& e, TierKind tier, const Purpose& purpose);
  void Return(UnitId unit, StateId s, const Place& home, const Place& at, const Elements& e);
  // Moves elements from tier to tier until they are at `to`. This is the only function that knows which tiers are
  // neighbours.
  void Transfer(UnitId unit, StateId s, const Place& to, Place from, const Elements& e, When when = When::kAlways);
  void Gather(UnitId unit, StateId s, const Place& dst, const Place& src);

  const Graph& graph_;
  const Layout& layout_;
  Segment segment_;
  std::vector<int32_t> home_region_;   // by Layout::HomeIndex
  std::vector<int32_t> fixed_region_;  // by tensor
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_BUILDER_H_
