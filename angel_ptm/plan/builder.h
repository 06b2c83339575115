// Regions and steps common to all segments; nobody but the builders of segments includes this.
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
  // `sweep`: the unit whose sweep it builds.
  Builder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId sweep = kNone);

  Segment Take() {
    UpdateLifetimes(segment_);
    return std::move(segment_);
  }

 protected:
  // What a new region of a unit's state is for.
  struct Purpose {
    std::string_view label;
    MemoryClass memory_class = MemoryClass::kStaging;
  };

  int32_t AddRegion(Region region) {
    segment_.regions.push_back(std::move(region));
    return static_cast<int32_t>(segment_.regions.size()) - 1;
  }
  // Memory for `count` elements of a unit's state.
  Place AddUnitRegion(UnitId unit, StateId s, int64_t count, TierKind tier, const Purpose& purpose);

  TierKind TierOf(const Place& place) const { return segment_.regions[place.region].range.tier; }
  TierKind HomeTier(UnitId unit, StateId s) const { return layout_.home(unit, s).range.tier; }
  // Elements [begin, begin + count) of a unit's flat vector, or of the rank's own slice of it: the same numbers on all
  // ranks.
  struct Elements {
    int64_t begin = 0, count = 0;
    bool own = false;
  };
  Elements Whole(UnitId unit) const { return {0, layout_.whole_elements(unit)}; }
  // One rank's slice is the whole.
  Elements OwnSlice(UnitId unit) const { return {0, layout_.slices[unit].slice_elements, layout_.replicas(unit) > 1}; }

  // The home's memory for these elements.
  Place HomePlace(UnitId unit, StateId s, const Elements& e) const;
  // These elements of a region that holds all of the unit's.
  Place Part(const Place& whole, StateId s, const Elements& e) const {
    return {whole.region, layout_.bytes(s, e.begin), layout_.bytes(s, e.count), e.own};
  }

  // Where elements, which lie at `at`, can be used on `tier`: there if it is that tier, else in a new region that they
  // are moved to. Return is the mirror: what lies at `at` goes back to `home`, if it was moved.
  Place Fetch(UnitId unit, StateId s, const Place& at, const Elements& e, TierKind tier, const Purpose& purpose,
              When when = When::kAlways);
  // As Fetch, for what is overwritten: nothing comes.
  Place Room(UnitId unit, StateId s, const Place& home, const Elements& e, TierKind tier, const Purpose& purpose);
  void Return(UnitId unit, StateId s, const Place& home, const Place& at, const Elements& e);
  // Moves elements from tier to tier until they are at `to`. The only function that knows which tiers are neighbours.
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
