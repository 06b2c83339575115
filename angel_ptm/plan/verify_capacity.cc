// The static half of the proof: the layout, and the addresses and lifetimes of regions.
#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm::verify {
namespace {

// Disjoint ranges of one tier.
class DisjointRanges {
 public:
  // Adds the range and returns null if it is disjoint from all others; else returns the label of one that it overlaps.
  // Keeps a pointer to `label`.
  const std::string* Add(const MemoryRange& range, const std::string& label) {
    if (range.bytes == 0) return nullptr;
    auto next = ranges_.lower_bound(range.offset);
    if (next != ranges_.end() && next->first < range.offset + range.bytes) return next->second.label;
    if (next != ranges_.begin() && std::prev(next)->second.end > range.offset) return std::prev(next)->second.label;
    ranges_.emplace_hint(next, range.offset, Entry{range.offset + range.bytes, &label});
    return nullptr;
  }
  void Remove(const MemoryRange& range) { ranges_.erase(range.offset); }

 private:
  struct Entry {
    int64_t end;
    const std::string* label;
  };
  std::map<int64_t, Entry> ranges_;
};

absl::Status CheckSlices(const Graph& graph, const Layout& layout) {
  const auto error = [&](const auto&... parts) {
    return absl::InternalError(absl::StrCat("layout of graph ", graph.name, ": ", parts...));
  };
  if (layout.expert_degree < 1 || layout.world_size % layout.expert_degree != 0) {
    return error("experts split over ", layout.expert_degree, " places of ", layout.world_size, " ranks");
  }
  if (layout.world_size < 1 || layout.zero_stage < 0 || layout.zero_stage > 3) {
    return error("a world of ", layout.world_size, " at stage ", layout.zero_stage);
  }
  if (layout.page_bytes <= 0 || layout.page_bytes % kHomeAlignment != 0) {
    return error("pages of ", layout.page_bytes, " bytes are no multiple of ", kHomeAlignment);
  }
  if (layout.slices.size() != graph.units().size() ||
      layout.homes.size() != graph.units().size() * layout.states.size()) {
    return error(layout.slices.size(), " slices and ", layout.homes.size(), " homes for ", graph.units().size(),
                 " units");
  }
  for (size_t u = 0; u < graph.units().size(); ++u) {
    const UnitSlices& s = layout.slices[u];
    // slice_elements must be the smallest aligned size such that `world_size` slices hold the unit.
    const bool aligned = s.slice_elements % kSliceAlignment == 0;
    const bool covers = s.slice_elements * layout.world_size >= s.elements;
    const bool least = (s.slice_elements - kSliceAlignment) * layout.world_size < std::max<int64_t>(1, s.elements);
    if (s.elements != graph.units()[u].elements || !aligned || !covers || !least) {
      return error("unit ", graph.units()[u].name, " of ", graph.units()[u].elements,
                   " elements is cut into slices of ", s.slice_elements);
    }
    // If experts are split, world_size / degree ranks own the experts of one place, which are whole and without
    // padding.
    const int degree = graph.units()[u].is_experts ? layout.expert_degree : 1;
    if (s.replicas * degree != layout.world_size ||
        (degree > 1 && s.slice_elements * layout.world_size != s.elements)) {
      return error("unit ", graph.units()[u].name, " is used by ", s.replicas, " of ", layout.world_size,
                   " ranks, experts are split over ", degree);
    }
  }
  return absl::OkStatus();
}

std::string HomeLabel(const Graph& graph, const Layout& layout, const Home& home) {
  return absl::StrCat(graph.units()[home.unit].name, " ", layout.states[home.state].name);
}

absl::Status CheckHome(const Graph& graph, const Plan& plan, UnitId unit, StateId s) {
  const Layout& layout = plan.layout;
  const Home& home = layout.home(unit, s);
  const auto error = [&](const auto&... parts) {
    return absl::InternalError(absl::StrCat("layout of graph ", graph.name, ": home of ", graph.units()[unit].name, " ",
                                            layout.states[s].name, ": ", parts...));
  };
  if (home.unit != unit || home.state != s) return error("labelled as another's");
  if (s != kParameterState && !graph.units()[unit].trainable) {
    return home.elements == 0 ? absl::OkStatus() : error("belongs to a frozen unit");
  }
  if (layout.states[s].on_host && home.range.tier != TierKind::kHost) return error("is not on the host");
  const StateExtent extent = ExtentOf(layout, unit, s);
  if (IsGuest(layout, s) && home.range != layout.home(unit, layout.states[s].takes_place_of).range) {
    return error("is not that of the ", layout.states[layout.states[s].takes_place_of].name, ", whose place it takes");
  }
  if (home.elements * extent.element_bytes != extent.stored_bytes || home.range.bytes != extent.stored_bytes) {
    return error("stores ", home.elements, " elements in ", home.range.bytes, " bytes, stage ", layout.zero_stage,
                 " demands ", extent.stored_bytes, " bytes");
  }
  if (home.range.offset < 0 || home.range.offset % kHomeAlignment != 0 ||
      home.range.offset + home.range.bytes > layout.home_bytes[static_cast<int>(home.range.tier)]) {
    return error("at ", home.range.offset, " is not aligned or not among the ",
                 layout.home_bytes[static_cast<int>(home.range.tier)], " bytes of homes");
  }
  return absl::OkStatus();
}

bool HasFixedPlace(const Tensor& tensor) {
  return tensor.tensor_class == TensorClass::kInput || tensor.tensor_class == TensorClass::kOutput ||
         tensor.tensor_class == TensorClass::kCache;
}

}  // namespace

absl::Status CheckLayout(const Graph& graph, const Plan& plan) {
  RETURN_IF_ERROR(CheckSlices(graph, plan.layout));
  std::array<DisjointRanges, kTierCount> used;
  std::vector<std::string> labels(plan.layout.homes.size());
  const LockFreeRows rows = FindLockFreeRows(plan.layout.states);
  std::map<std::pair<StateId, int64_t>, MemoryRange> shared;  // by state and offset: the longest range
  for (size_t i = 0; i < plan.layout.homes.size(); ++i) {
    const Home& home = plan.layout.homes[i];
    const size_t states = plan.layout.states.size();
    RETURN_IF_ERROR(CheckHome(graph, plan, static_cast<UnitId>(i / states), static_cast<StateId>(i % states)));
    if (home.elements == 0 || IsGuest(plan.layout, home.state)) continue;
    labels[i] = HomeLabel(graph, plan.layout, home);
    if (rows.shared(home.state)) {
      MemoryRange& range = shared.try_emplace({home.state, home.range.offset}, home.range).first->second;
      range.bytes = std::max(range.bytes, home.range.bytes);
      continue;
    }
    if (const std::string* other = used[static_cast<int>(home.range.tier)].Add(home.range, labels[i])) {
      return absl::InternalError(absl::StrCat("homes of ", labels[i], " and ", *other, " overlap"));
    }
  }
  for (const auto& [home, range] : shared) {
    if (const std::string* other = used[static_cast<int>(range.tier)].Add(range, plan.layout.states[home.first].name)) {
      return absl::InternalError(
          absl::StrCat("homes of ", plan.layout.states[home.first].name, " and ", *other, " overlap"));
    }
  }
  for (int t = 0; t < kTierCount; ++t) {
    if (plan.layout.home_bytes[t] > plan.arena_bytes[t]) {
      return absl::InternalError(absl::StrCat("homes take ", plan.layout.home_bytes[t], " bytes of ",
                                              Name(static_cast<TierKind>(t)), " memory, the arena has ",
                                              plan.arena_bytes[t]));
    }
  }
  if (plan.fixed.size() != graph.tensors.size()) {
    return absl::InternalError(absl::StrCat(plan.fixed.size(), " fixed places for ", graph.tensors.size(), " tensors"));
  }
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    const Tensor& tensor = graph.tensors[t];
    const MemoryRange& range = plan.fixed[t];
    if (HasFixedPlace(tensor) != (range.offset >= 0)) {
      return absl::InternalError(absl::StrCat("tensor ", tensor.name, " (", Name(tensor.tensor_class), ") has ",
                                              range.offset >= 0 ? "a" : "no", " fixed place"));
    }
    if (range.offset < 0) continue;
    if (range.tier != TierKind::kDevice || range.bytes != tensor.bytes()) {
      return absl::InternalError(absl::StrCat("tensor ", tensor.name, " of ", tensor.bytes(), " bytes has a place of ",
                                              range.bytes, " bytes on the ", Name(range.tier)));
    }
    if (const std::string* other = used[static_cast<int>(range.tier)].Add(range, tensor.name)) {
      return absl::InternalError(absl::StrCat("fixed places of ", tensor.name, " and ", *other, " overlap"));
    }
  }
  return absl::OkStatus();
}

namespace {

absl::Status CheckPermanent(const Subject& subject, const Region& region) {
  const Plan& plan = subject.plan;
  if (region.tensor != kNone) {
    if (region.tensor >= 0 && region.tensor < static_cast<TensorId>(plan.fixed.size()) &&
        region.range == plan.fixed[region.tensor]) {
      return absl::OkStatus();
    }
  } else if (region.unit >= 0 && region.unit < static_cast<UnitId>(subject.graph.units().size()) &&
             region.range == plan.layout.home(region.unit, region.state).range) {
    return absl::OkStatus();
  }
  return subject.Error("permanent region ", region.label, " is not where the layout says");
}

absl::Status CheckRegion(const Subject& subject, const Region& region) {
  const int64_t arena = subject.plan.arena_bytes[static_cast<int>(region.range.tier)];
  if (region.range.offset < 0 || region.range.bytes <= 0 || region.range.offset + region.range.bytes > arena) {
    return subject.Error("region ", region.label, " of ", region.range.bytes, " bytes at ", region.range.offset,
                         " lies outside the ", Name(region.range.tier), " arena of ", arena, " bytes");
  }
  if (region.range.offset % (kParameterAlignment * 4) != 0) {
    return subject.Error("region ", region.label, " at ", region.range.offset, " is not aligned");
  }
  return region.permanent ? CheckPermanent(subject, region) : absl::OkStatus();
}

// Every home and every fixed place must be a permanent region; otherwise nothing would keep transient regions off it,
// and its value would not be tracked. It cannot be two regions, because permanent regions lie where the layout says and
// are disjoint.
absl::Status CheckAllPermanent(const Subject& subject) {
  const Plan& plan = subject.plan;
  const LockFreeRows rows = FindLockFreeRows(plan.layout.states);
  std::vector<bool> home_listed(plan.layout.homes.size(), false), fixed_listed(plan.fixed.size(), false);
  for (const Region& region : subject.segment.regions) {
    if (!region.permanent) continue;
    if (region.tensor != kNone) {
      fixed_listed[region.tensor] = true;
    } else {
      home_listed[plan.layout.HomeIndex(region.unit, region.state)] = true;
    }
  }
  for (size_t i = 0; i < home_listed.size(); ++i) {
    const Home& home = plan.layout.homes[i];
    const bool here = !rows.shared(home.state) || home.unit == subject.segment.sweeps;
    if (home.elements > 0 && here != home_listed[i] && !IsGuest(plan.layout, home.state)) {
      return subject.Error(here ? "no" : "a", " permanent region for the home of ",
                           HomeLabel(subject.graph, plan.layout, home));
    }
  }
  for (size_t t = 0; t < fixed_listed.size(); ++t) {
    if (plan.fixed[t].offset >= 0 && !fixed_listed[t]) {
      return subject.Error("no permanent region for the fixed place of ", subject.graph.tensors[t].name);
    }
  }
  return absl::OkStatus();
}

// A place in the own slice must lie within the slice, in a region that a unit's whole vector fills. Then it lies inside
// the region on every rank.
absl::Status CheckOwnPlace(const Subject& subject, int32_t index, const Place& place) {
  const Region& region = subject.segment.regions[place.region];
  const Layout& layout = subject.plan.layout;
  if (region.unit < 0 || region.unit >= static_cast<UnitId>(subject.graph.units().size()) || region.state < 0 ||
      region.state >= static_cast<StateId>(layout.states.size()) || layout.slices[region.unit].replicas == 1) {
    return subject.StepError(index, "region ", region.label, " has no own slice");
  }
  const StateExtent extent = ExtentOf(layout, region.unit, region.state);
  if (region.range.bytes != extent.whole_bytes) {
    return subject.StepError(index, "region ", region.label, " of ", region.range.bytes,
                             " bytes holds an own slice of a vector of ", extent.whole_bytes);
  }
  if (place.begin + place.bytes <= extent.own_bytes) return absl::OkStatus();
  return subject.StepError(index, "bytes [", place.begin, ", ", place.begin + place.bytes,
                           ") of the own slice in region ", region.label, ", which has ", extent.own_bytes);
}

// Every place lies inside its region, and is used only while the region is alive.
absl::Status CheckPlaces(const Subject& subject, int32_t index) {
  const Step& step = subject.segment.steps[index];
  if ((step.kind == StepKind::kCompute || step.kind == StepKind::kUpdate) &&
      (step.op < 0 || step.op >= static_cast<OpId>(subject.graph.ops.size()))) {
    return subject.StepError(index, "no such op");
  }
  const bool of_unit = step.kind != StepKind::kCompute && step.kind != StepKind::kNorm && step.kind != StepKind::kMove;
  if (step.state < 0 || step.state >= static_cast<StateId>(subject.plan.layout.states.size())) {
    return subject.StepError(index, "no such state");
  }
  if ((of_unit && step.unit < 0) || step.unit >= static_cast<UnitId>(subject.graph.units().size())) {
    return subject.StepError(index, "no such unit");
  }
  for (const MemoryAccess& access : AccessesOf(subject.graph, step)) {
    const Place& p = access.place;
    if (p.region < 0 || p.region >= static_cast<int32_t>(subject.segment.regions.size())) {
      return subject.StepError(index, "no region ", p.region);
    }
    const Region& region = subject.segment.regions[p.region];
    if (p.begin < 0 || p.bytes <= 0 || p.begin + p.bytes > region.range.bytes) {
      return subject.StepError(index, "bytes [", p.begin, ", ", p.begin + p.bytes, ") of region ", region.label,
                               ", which has ", region.range.bytes);
    }
    if (!region.permanent && (index < region.first_step || index > region.last_step)) {
      return subject.StepError(index, "uses region ", region.label, ", which lives from step ", region.first_step,
                               " to ", region.last_step);
    }
    if (p.own) RETURN_IF_ERROR(CheckOwnPlace(subject, index, p));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCapacity(const Subject& subject) {
  const int32_t steps = static_cast<int32_t>(subject.segment.steps.size());
  std::array<DisjointRanges, kTierCount> alive;
  std::vector<std::vector<const Region*>> starts(steps), ends(steps);
  const auto add = [&](const Region& region) -> absl::Status {
    if (const std::string* other = alive[static_cast<int>(region.range.tier)].Add(region.range, region.label)) {
      return subject.Error("regions ", region.label, " and ", *other, " are alive at the same time and overlap");
    }
    return absl::OkStatus();
  };
  for (const Region& region : subject.segment.regions) {
    if (!region.permanent && region.first_step == kNone) continue;  // never used, has no address
    RETURN_IF_ERROR(CheckRegion(subject, region));
    if (region.permanent) {
      RETURN_IF_ERROR(add(region));
      continue;
    }
    if (region.first_step < 0 || region.last_step < region.first_step || region.last_step >= steps) {
      return subject.Error("region ", region.label, " lives from step ", region.first_step, " to ", region.last_step);
    }
    starts[region.first_step].push_back(&region);
    ends[region.last_step].push_back(&region);
  }
  if (steps > 0) RETURN_IF_ERROR(CheckAllPermanent(subject));
  for (int32_t i = 0; i < steps; ++i) {
    for (const Region* region : starts[i]) RETURN_IF_ERROR(add(*region));
    RETURN_IF_ERROR(CheckPlaces(subject, i));
    for (const Region* region : ends[i]) alive[static_cast<int>(region->range.tier)].Remove(region->range);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm::verify
