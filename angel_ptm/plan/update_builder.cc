// The update segment: the norm, then for every trainable unit its update ops, where its states rest.
#include <algorithm>
#include <utility>

#include "angel_ptm/plan/builder.h"

namespace angel_ptm {
namespace {

class UpdateBuilder : public Builder {
 public:
  using Builder::Builder;

  Segment Build() {
    std::vector<std::vector<OpId>> ops(graph_.units().size());  // by unit, in the graph's order
    std::vector<UnitId> units;
    for (OpId op = graph_.update_begin; op < static_cast<OpId>(graph_.ops.size()); ++op) {
      const UnitId unit = graph_.ops[op].unit;
      if (ops[unit].empty()) units.push_back(unit);
      ops[unit].push_back(op);
    }
    segment_.steps.push_back({.kind = StepKind::kNorm, .lane = Lane::kComm});
    for (UnitId unit : units) Update(unit, ops[unit]);
    for (Step& step : segment_.steps) step.in_update = true;
    return Take();
  }

 private:
  // A state that the unit's update touches, over all its ops.
  struct Use {
    StateId state;
    bool reads_first, writes;
  };

  std::vector<Use> UsesOf(const std::vector<OpId>& ops) const {
    std::vector<Use> uses;
    for (OpId op : ops) {
      for (size_t slot = 0; slot < graph_.ops[op].states.size(); ++slot) {
        const StateId state = graph_.ops[op].states[slot];
        const Access access = AccessOf(graph_.ops[op], static_cast<int>(slot));
        const auto it = std::find_if(uses.begin(), uses.end(), [&](const Use& u) { return u.state == state; });
        if (it != uses.end()) {
          it->writes |= Writes(access);
        } else {
          uses.push_back({state, Reads(access), Writes(access)});
        }
      }
    }
    return uses;
  }

  // Compute follows the state: the update runs on the processor that can address the homes of what only it touches,
  // moments above all, which are most of the bytes.
  TierKind TierOfUpdate(UnitId unit, const std::vector<Use>& uses) const {
    TierKind tier = TierKind::kDevice;
    for (const Use& use : uses) {
      if (use.state != kParameterState && use.state != kGradientState) tier = std::max(tier, HomeTier(unit, use.state));
    }
    while (SpecOf(tier).processor == Processor::kNobody) tier = Toward(tier, TierKind::kDevice);
    return tier;
  }

  void Update(UnitId unit, const std::vector<OpId>& ops) {
    const std::vector<Use> uses = UsesOf(ops);
    // A rank updates its own slice unless it stores everything itself.
    const bool own = std::any_of(uses.begin(), uses.end(), [&](const Use& use) { return layout_.sharded(use.state); });
    const Elements all = own ? OwnSlice(unit) : Whole(unit);
    // Of reduced gradients only the own slice is up to date.
    if (!own && layout_.world_size > 1) GatherHome(unit, kGradientState);

    const TierKind tier = TierOfUpdate(unit, uses);
    const bool in_place =
        std::all_of(uses.begin(), uses.end(), [&](const Use& use) { return HomeTier(unit, use.state) == tier; });
    if (in_place) {
      UpdateElements(unit, ops, uses, tier, all);
    } else {
      ForEachPage(unit, all, [&](const Elements& page) { UpdateElements(unit, ops, uses, tier, page); });
    }
    for (const Use& use : uses) {
      if (own && use.writes && !layout_.sharded(use.state)) GatherHome(unit, use.state);
    }
  }

  // By page; pages never straddle slices.
  template <typename Visit>
  void ForEachPage(UnitId unit, const Elements& all, Visit&& visit) const {
    const int64_t slice = layout_.slices[unit].slice_elements, page_elements = layout_.page_elements();
    const int64_t end = all.begin + all.count;
    for (int64_t at = all.begin; at < end;) {
      const int64_t in_slice = at % slice;
      const int64_t page = std::min({page_elements - in_slice % page_elements, slice - in_slice, end - at});
      visit(Elements{at, page, all.own});
      at += page;
    }
  }

  void UpdateElements(UnitId unit, const std::vector<OpId>& ops, const std::vector<Use>& uses, TierKind tier,
                      const Elements& e) {
    std::vector<Place> places(layout_.states.size());
    // What is only written takes the place of what shares its home, which is read there, else a place of its own.
    for (const bool reads : {true, false}) {
      for (const Use& use : uses) {
        if (use.reads_first != reads) continue;
        const std::string label = absl::StrCat(layout_.states[use.state].name, " pages");
        const Place home = HomePlace(unit, use.state, e);
        const StateId guest = layout_.guest_of(use.state);
        places[use.state] = reads               ? Fetch(unit, use.state, home, e, tier, {label})
                            : guest != kNoState ? places[guest]
                                                : Room(unit, use.state, home, e, tier, {label});
      }
    }
    for (OpId op : ops) {
      Step step{.kind = StepKind::kUpdate, .op = op, .unit = unit, .begin = e.begin, .count = e.count};
      step.own = e.own;
      step.lane = SpecOf(tier).processor == Processor::kHost ? Lane::kHostCompute : Lane::kCompute;
      for (StateId state : graph_.ops[op].states) step.operands.push_back(places[state]);
      segment_.steps.push_back(std::move(step));
    }
    for (const Use& use : uses) {
      if (!use.writes) continue;
      Return(unit, use.state, HomePlace(unit, use.state, e), places[use.state], e);
    }
  }

  // Completes a whole vector at home from the slices that its owners keep up to date.
  void GatherHome(UnitId unit, StateId s) {
    const Elements whole = Whole(unit), slice = OwnSlice(unit);
    const Place home = HomePlace(unit, s, whole);
    Place on_device = home;
    if (TierOf(home) != TierKind::kDevice) {
      on_device =
          AddUnitRegion(unit, s, whole.count, TierKind::kDevice, {absl::StrCat(layout_.states[s].name, " whole")});
      Transfer(unit, s, Part(on_device, s, slice), HomePlace(unit, s, slice), slice);
    }
    Gather(unit, s, on_device, Part(on_device, s, slice));
    Return(unit, s, home, on_device, whole);
  }
};

}  // namespace

Segment BuildUpdate(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed) {
  Segment segment = UpdateBuilder(graph, layout, fixed).Build();
  segment.name = "update";
  segment.updates = true;
  return segment;
}

}  // namespace angel_ptm
