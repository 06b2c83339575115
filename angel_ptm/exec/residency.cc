#include "angel_ptm/exec/residency.h"

#include "angel_ptm/model/access.h"

namespace angel_ptm {
Residency::Residency(const Graph& graph, const Layout& layout, int rank) : graph_(graph), layout_(layout), rank_(rank) {
  for (const Home& home : layout.homes) {
    if (home.elements > 0 && layout.shares_place(home.state)) {
      vectors_.push_back(
          pages_.AddGuest(vectors_[layout.HomeIndex(home.unit, layout.states[home.state].takes_place_of)]));
      continue;
    }
    const int64_t slice = layout.bytes(home.state, layout.slices[home.unit].slice_elements);
    const int64_t slices = home.elements / layout.slices[home.unit].slice_elements;
    const int64_t page = layout.bytes(home.state, layout.page_elements());
    vectors_.push_back(pages_.AddVector(slice, slices, page, {home.range.tier, home.range.offset}));
  }
}

Residency::StateRange Residency::Elements(UnitId unit, StateId s, bool own, int64_t begin, int64_t count) const {
  // The home of a sharded state begins with the rank's own slice.
  const int64_t at_home = own && !layout_.sharded(unit, s)
                              ? layout_.own_begin(unit, rank_) - layout_.part_begin(unit, rank_) + begin
                              : begin;
  return {unit, s, layout_.bytes(s, at_home), layout_.bytes(s, count)};
}

Frame Residency::FrameOf(const Segment& segment, const Place& place) const {
  const Region& region = segment.regions[place.region];
  return {region.range.tier, layout_.OffsetOf(region, place, rank_)};
}

void Residency::Expect(const Segment& segment, const StateRange& extent, const Place& place, bool travels) const {
  if (!travels && !segment.regions[place.region].permanent) return;
  pages_.ExpectNewest(VectorOf(extent), extent.begin, extent.bytes, FrameOf(segment, place));
}

void Residency::Set(const Segment& segment, const StateRange& extent, const Place& place) {
  pages_.SetNewest(VectorOf(extent), extent.begin, extent.bytes, FrameOf(segment, place));
}

void Residency::Follow(const Segment& segment, const Step& step, bool overwrite) {
  const UnitId unit = step.unit;
  const bool travels = step.in_update != (step.state == kGradientState);
  switch (step.kind) {
    case StepKind::kMove:
      return FollowMove(segment, step, travels);
    case StepKind::kAllGather:
      Expect(segment, OwnSlice(unit, step.state), step.src, travels);
      // The other ranks' slices are only now as new as the own one.
      if (travels) Set(segment, Elements(unit, step.state, /*own=*/false, 0, layout_.whole_elements(unit)), step.dst);
      return;
    case StepKind::kReduceScatter:
      if (overwrite) return Set(segment, OwnSlice(unit, step.state), step.dst);
      return Expect(segment, OwnSlice(unit, step.state), step.dst, travels);
    case StepKind::kUpdate:
      return FollowUpdate(segment, step);
    case StepKind::kCompute:
    case StepKind::kNorm:
    case StepKind::kDeliver:
      return;
  }
}

void Residency::FollowMove(const Segment& segment, const Step& step, bool travels) {
  if (step.unit == kNone) return;
  const StateRange extent = ElementsOf(step, step.state);
  Expect(segment, extent, step.src, travels);
  if (travels) Set(segment, extent, step.dst);
}

void Residency::FollowUpdate(const Segment& segment, const Step& step) {
  const std::vector<StateId>& states = graph_.ops[step.op].states;
  for (size_t i = 0; i < states.size(); ++i) {
    // The op updates state in place, so the newest copy stays where it was. State that the op only reads may already be
    // on its way home at the same time; gradients do not travel in an update. State that the op makes anew needs no
    // earlier copy.
    const Access access = AccessOf(graph_.ops[step.op], static_cast<int>(i));
    if (access == Access::kWrite || (access == Access::kRead && states[i] != kGradientState)) continue;
    Expect(segment, ElementsOf(step, states[i]), step.operands[i], Writes(access));
  }
  for (size_t i = 0; i < states.size(); ++i) {
    if (AccessOf(graph_.ops[step.op], static_cast<int>(i)) != Access::kWrite) continue;
    Set(segment, ElementsOf(step, states[i]), step.operands[i]);
  }
}

}  // namespace angel_ptm
