#include "angel_ptm/exec/residency.h"

namespace angel_ptm {
namespace {

Frame FrameOf(const Segment& segment, const Place& place) {
  const MemoryRange& range = segment.regions[place.region].range;
  return {range.tier, range.offset + place.begin};
}

}  // namespace

Residency::Residency(const Layout& layout) : layout_(layout) {
  for (const Home& home : layout.homes) {
    // The length of a slice that nobody stores does not matter.
    const int64_t slice = home.elements == 0 ? kSliceAlignment * 4 : layout.slice_bytes(home.unit);
    vectors_.push_back(
        pages_.AddVector(slice, home.elements * 4 / slice, layout.page_bytes, {home.range.tier, home.range.offset}));
  }
}

Residency::Extent Residency::Elements(UnitId unit, StateClass c, int64_t begin, int64_t count) const {
  const int64_t stored_from = IsSharded(c, layout_.zero_stage) ? layout_.slice_bytes(unit) * layout_.rank : 0;
  return {unit, c, begin * 4 - stored_from, count * 4};
}

Residency::Extent Residency::OwnSlice(UnitId unit, StateClass c) const {
  const int64_t slice = layout_.slices[unit].slice_elements;
  return Elements(unit, c, slice * layout_.rank, slice);
}

void Residency::Expect(const Segment& segment, const Extent& extent, const Place& place, bool travels) const {
  if (!travels && !segment.regions[place.region].permanent) return;
  pages_.ExpectNewest(VectorOf(extent), extent.begin, extent.bytes, FrameOf(segment, place));
}

void Residency::Set(const Segment& segment, const Extent& extent, const Place& place) {
  pages_.SetNewest(VectorOf(extent), extent.begin, extent.bytes, FrameOf(segment, place));
}

void Residency::Follow(const Segment& segment, const Step& step, bool updating) {
  const UnitId unit = step.unit;
  const bool travels = updating != (step.state_class == StateClass::kGradients);
  switch (step.kind) {
    case StepKind::kMove:
      return FollowMove(segment, step, travels);
    case StepKind::kGather: {
      Expect(segment, OwnSlice(unit, step.state_class), step.src, travels);
      // The other ranks' slices are only now as new as the own one.
      const int64_t whole = layout_.slices[unit].slice_elements * layout_.world_size;
      if (travels) Set(segment, Elements(unit, step.state_class, 0, whole), step.dst);
      return;
    }
    case StepKind::kReduce:
      return Expect(segment, OwnSlice(unit, step.state_class), step.dst, travels);
    case StepKind::kSquareSum:
      return Expect(segment, Elements(unit, step.state_class, step.begin, step.count), step.src, travels);
    case StepKind::kUpdate:
      return FollowUpdate(segment, step);
    case StepKind::kCompute:
    case StepKind::kNorm:
      return;
  }
}

void Residency::FollowMove(const Segment& segment, const Step& step, bool travels) {
  if (step.unit == kNone) return;
  const int64_t home_begin = step.lane == Lane::kCopyIn ? step.src.begin : step.dst.begin;
  const Extent extent{step.unit, step.state_class, home_begin, step.src.bytes};
  Expect(segment, extent, step.src, travels);
  if (travels) Set(segment, extent, step.dst);
}

void Residency::FollowUpdate(const Segment& segment, const Step& step) {
  constexpr StateClass kOperands[] = {StateClass::kParameters, StateClass::kMoment1, StateClass::kMoment2,
                                      StateClass::kGradients};
  for (int i = 0; i < 4; ++i) {
    // Updated in place, so what it writes is the newest copy where the newest copy was.
    Expect(segment, Elements(step.unit, kOperands[i], step.begin, step.count), step.operands[i],
           kOperands[i] != StateClass::kGradients);
  }
}

}  // namespace angel_ptm
