#include "angel_ptm/plan/builder.h"

#include "angel_ptm/model/lock_free.h"

namespace angel_ptm {
namespace {

MemoryClass ClassOfHome(StateId s, const StateSpec& spec) {
  if (spec.on_host) return MemoryClass::kMailboxes;
  if (s == kParameterState) return MemoryClass::kParameters;
  return s == kGradientState ? MemoryClass::kGradients : MemoryClass::kOptimizer;
}

}  // namespace

Builder::Builder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId sweep)
    : graph_(graph),
      layout_(layout),
      home_region_(layout.homes.size(), kNone),
      fixed_region_(graph.tensors.size(), kNone) {
  const LockFreeRows rows = FindLockFreeRows(layout.states);
  for (size_t i = 0; i < layout.homes.size(); ++i) {
    const Home& home = layout.homes[i];
    if (home.elements == 0 || layout.shares_place(home.state)) continue;
    if (rows.shared(home.state) && home.unit != sweep) continue;
    home_region_[i] =
        AddRegion({.label = absl::StrCat(graph.units()[home.unit].name, " ", layout.states[home.state].name),
                   .memory_class = ClassOfHome(home.state, layout.states[home.state]),
                   .range = home.range,
                   .permanent = true,
                   .unit = home.unit,
                   .state = home.state});
  }
  for (size_t i = 0; i < layout.homes.size(); ++i) {
    const Home& home = layout.homes[i];
    if (home.elements == 0 || !layout.shares_place(home.state)) continue;
    home_region_[i] = home_region_[layout.HomeIndex(home.unit, layout.states[home.state].takes_place_of)];
  }
  for (TensorId t = 0; t < static_cast<TensorId>(fixed.size()); ++t) {
    if (fixed[t].offset < 0) continue;
    fixed_region_[t] = AddRegion({.label = graph.tensors[t].name,
                                  .memory_class = MemoryClass::kInputsOutputs,
                                  .range = fixed[t],
                                  .permanent = true,
                                  .tensor = t});
  }
}

Place Builder::AddUnitRegion(UnitId unit, StateId s, int64_t count, TierKind tier, const Purpose& purpose) {
  const int64_t bytes = layout_.bytes(s, count);
  const int32_t region = AddRegion({.label = absl::StrCat(graph_.units()[unit].name, " ", std::string(purpose.label)),
                                    .memory_class = purpose.memory_class,
                                    .range = {tier, -1, bytes},
                                    .unit = unit,
                                    .state = s});
  return {region, 0, bytes};
}

Place Builder::HomePlace(UnitId unit, StateId s, const Elements& e) const {
  const int32_t region = home_region_[layout_.HomeIndex(unit, s)];
  APTM_CHECK(region != kNone, "unit ", graph_.units()[unit].name, " has no ", layout_.states[s].name);
  // A sharded home contains only the own slice, so places in it do not depend on the rank.
  return {region, layout_.bytes(s, e.begin), layout_.bytes(s, e.count), e.own && !layout_.sharded(unit, s)};
}

Place Builder::Room(UnitId unit, StateId s, const Place& home, const Elements& e, TierKind tier,
                    const Purpose& purpose) {
  return TierOf(home) == tier ? home : AddUnitRegion(unit, s, e.count, tier, purpose);
}

Place Builder::Fetch(UnitId unit, StateId s, const Place& at, const Elements& e, TierKind tier, const Purpose& purpose,
                     When when) {
  if (TierOf(at) == tier) return at;
  const Place to = AddUnitRegion(unit, s, e.count, tier, purpose);
  Transfer(unit, s, to, at, e, when);
  return to;
}

void Builder::Return(UnitId unit, StateId s, const Place& home, const Place& at, const Elements& e) {
  if (TierOf(at) != TierOf(home)) Transfer(unit, s, home, at, e);
}

void Builder::Transfer(UnitId unit, StateId s, const Place& to, Place from, const Elements& e, When when) {
  const int64_t slice = layout_.slices[unit].slice_elements, page = layout_.page_elements();
  const int64_t pages_per_slice = (slice + page - 1) / page;
  const auto page_of = [&](int64_t element) { return element / slice * pages_per_slice + element % slice / page; };
  while (TierOf(from) != TierOf(to)) {
    const TierKind next = Toward(TierOf(from), TierOf(to));
    const Place hop = next == TierOf(to) ? to : AddUnitRegion(unit, s, e.count, next, {"on its way"});
    Step step{.kind = StepKind::kMove, .lane = FindLink(TierOf(from), next)->lane, .unit = unit, .state = s};
    step.when = when;
    step.src = from;
    step.dst = hop;
    step.begin = e.begin;
    step.own = e.own;
    step.count = e.count;
    step.first_page = page_of(e.begin);
    step.page_count = page_of(e.begin + e.count - 1) + 1 - step.first_page;
    segment_.steps.push_back(std::move(step));
    from = hop;
  }
}

void Builder::Gather(UnitId unit, StateId s, const Place& dst, const Place& src) {
  Step step{.kind = StepKind::kAllGather, .lane = Lane::kComm, .unit = unit, .state = s};
  step.src = src;
  step.dst = dst;
  segment_.steps.push_back(std::move(step));
}

}  // namespace angel_ptm
