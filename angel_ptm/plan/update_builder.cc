// Builds the update segment: the norm, then the update ops of every trainable unit, run where its states rest. For a
// lock-free update it consists of the norm and the delivery of gradients, and each unit's update is a segment of its
// own.
#include <algorithm>
#include <utility>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/builder.h"

namespace angel_ptm {
namespace {

class UpdateBuilder : public Builder {
 public:
  UpdateBuilder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId sweep = kNone)
      : Builder(graph, layout, fixed, sweep),
        sweep_(sweep),
        lock_free_(FindLockFreeRows(layout.states)),
        ops_(graph.units().size()) {
    for (OpId op = graph.update_begin; op < static_cast<OpId>(graph.ops.size()); ++op) {
      const UnitId unit = graph.ops[op].unit;
      if (ops_[unit].empty()) units_.push_back(unit);
      ops_[unit].push_back(op);
    }
  }

  Segment Build() {
    segment_.steps.push_back({.kind = StepKind::kNorm, .lane = Lane::kComm});
    for (UnitId unit : units_) {
      if (lock_free_) {
        Deliver(unit);
      } else {
        Update(unit, ops_[unit]);
      }
    }
    return Finish();
  }

  Segment BuildSweep() {
    if (!ops_[sweep_].empty()) Update(sweep_, ops_[sweep_]);
    return Finish();
  }

 private:
  Segment Finish() {
    for (Step& step : segment_.steps) step.in_update = true;
    return Take();
  }

  // The state that the update uses in place of one that its ops name.
  StateId At(StateId state) const {
    if (sweep_ == kNone) return state;
    if (state == kGradientState) return lock_free_.mailbox;
    return state == kParameterState ? lock_free_.new_parameters : state;
  }

  // While a unit is being updated, the executor substitutes its second mailbox for the first.
  void Deliver(UnitId unit) {
    const Elements all = OwnSlice(unit);
    const auto deliver = [&](const Elements& e) {
      Step step{.kind = StepKind::kDeliver, .lane = Lane::kHostCompute, .own = e.own, .unit = unit};
      step.state = kGradientState;
      step.begin = e.begin;
      step.count = e.count;
      step.src =
          Fetch(unit, kGradientState, HomePlace(unit, kGradientState, e), e, TierKind::kHost, {"gradients pages"});
      step.dst = HomePlace(unit, lock_free_.mailbox, e);
      segment_.steps.push_back(std::move(step));
    };
    if (HomeTier(unit, kGradientState) == TierKind::kHost) return deliver(all);
    ForEachPage(unit, all, deliver);
  }

  // A state that the unit's update touches, and how all its ops together use it.
  struct Use {
    StateId state;
    bool reads_first, writes;
  };

  std::vector<Use> UsesOf(const std::vector<OpId>& ops) const {
    std::vector<Use> uses;
    for (OpId op : ops) {
      for (size_t slot = 0; slot < graph_.ops[op].states.size(); ++slot) {
        const StateId state = At(graph_.ops[op].states[slot]);
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

  // Compute follows the state: the update runs on the processor that can address the homes of the states that only it
  // touches, above all the moments, which are most of the bytes.
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
    const bool own =
        std::any_of(uses.begin(), uses.end(), [&](const Use& use) { return layout_.sharded(unit, use.state); });
    const Elements all = own ? OwnSlice(unit) : Whole(unit);
    // Only the own slice of the reduced gradients is up to date.
    if (!own && layout_.replicas(unit) > 1) GatherHome(unit, kGradientState);

    const TierKind tier = TierOfUpdate(unit, uses);
    const bool in_place =
        std::all_of(uses.begin(), uses.end(), [&](const Use& use) { return HomeTier(unit, use.state) == tier; });
    if (in_place) {
      UpdateElements(unit, ops, uses, tier, all);
    } else {
      ForEachPage(unit, all, [&](const Elements& page) { UpdateElements(unit, ops, uses, tier, page); });
    }
    for (const Use& use : uses) {
      if (own && use.writes && !layout_.sharded(unit, use.state)) GatherHome(unit, use.state);
    }
  }

  // Visits the elements page by page. Pages never straddle slices.
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
    // A state that is only written takes the place of its guest, which is read there, or a place of its own if it has
    // no guest.
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
      for (StateId state : graph_.ops[op].states) step.operands.push_back(places[At(state)]);
      // The newest parameters, which micro-steps may read concurrently.
      if (sweep_ != kNone && op == ops.front()) step.src = HomePlace(unit, kParameterState, e);
      segment_.steps.push_back(std::move(step));
    }
    for (const Use& use : uses) {
      if (!use.writes) continue;
      Return(unit, use.state, HomePlace(unit, use.state, e), places[use.state], e);
    }
  }

  // Completes a whole vector at home by gathering the slices that their owners keep up to date.
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

  const UnitId sweep_;
  const LockFreeRows lock_free_;
  std::vector<std::vector<OpId>> ops_;  // by unit, in the graph's order
  std::vector<UnitId> units_;           // with ops
};

}  // namespace

Segment BuildUpdate(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed) {
  Segment segment = UpdateBuilder(graph, layout, fixed).Build();
  segment.name = "update";
  segment.updates = true;
  return segment;
}

Segment BuildSweep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed, UnitId unit) {
  Segment segment = UpdateBuilder(graph, layout, fixed, unit).BuildSweep();
  segment.name = absl::StrCat("sweep of ", graph.units()[unit].name);
  segment.sweeps = unit;
  return segment;
}

}  // namespace angel_ptm
