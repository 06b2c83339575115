#include <algorithm>
#include <utility>
#include <vector>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

bool Arrives(const Step& step) {
  return step.kind == StepKind::kGather || (step.kind == StepKind::kMove && step.lane == Lane::kCopyIn);
}
bool Leaves(const Step& step) {
  return step.kind == StepKind::kReduce || (step.kind == StepKind::kMove && step.lane == Lane::kCopyOut);
}

bool Overlap(const Place& a, const Place& b) {
  return a.region == b.region && a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes;
}

// Whether the two steps touch the same bytes and one of them writes.
bool Conflict(const Graph& graph, const Step& a, const Step& b) {
  bool conflict = false;
  ForEachPlace(graph, a, [&](const Place& pa, bool writes_a) {
    ForEachPlace(graph, b,
                 [&](const Place& pb, bool writes_b) { conflict |= (writes_a || writes_b) && Overlap(pa, pb); });
  });
  return conflict;
}

// Bytes that come alive at step i and would do so earlier if it moved.
int64_t NewBytes(const Segment& segment, int32_t i) {
  const Region& dst = segment.regions[segment.steps[i].dst.region];
  return !dst.permanent && dst.first_step == i ? dst.range.bytes : 0;
}

void MoveArrival(const Graph& graph, Segment& segment, std::vector<int64_t>& live, int32_t i, int64_t budget,
                 int prefetch_steps) {
  const Lane lane = segment.steps[i].lane;
  const int64_t bytes = NewBytes(segment, i);
  int32_t target = i;
  for (int crossed = 0; target > 0; --target) {
    const Step& before = segment.steps[target - 1];
    if (before.lane == Lane::kCompute && ++crossed > prefetch_steps) break;
    if (Arrives(before) && before.lane == lane) break;
    if (Conflict(graph, segment.steps[i], before) || live[target - 1] + bytes > budget) break;
  }
  if (target == i) return;
  std::rotate(segment.steps.begin() + target, segment.steps.begin() + i, segment.steps.begin() + i + 1);
  UpdateLifetimes(segment);
  live = LiveBytes(segment, TierKind::kDevice);
}

}  // namespace

void StartEarly(const Graph& graph, Segment& segment, int64_t budget, int prefetch_steps) {
  UpdateLifetimes(segment);
  std::vector<int64_t> live = LiveBytes(segment, TierKind::kDevice);
  const int32_t steps = static_cast<int32_t>(segment.steps.size());
  for (int32_t i = 0; i < steps; ++i) {
    if (Arrives(segment.steps[i])) MoveArrival(graph, segment, live, i, budget, prefetch_steps);
  }
  for (Region& region : segment.regions) {
    if (region.permanent || region.first_step == kNone || region.range.tier != TierKind::kDevice) continue;
    if (!Leaves(segment.steps[region.last_step])) continue;
    for (int crossed = 0; region.last_step + 1 < steps; ++region.last_step) {
      const int32_t next = region.last_step + 1;
      if (segment.steps[next].lane == Lane::kCompute && ++crossed > prefetch_steps) break;
      if (live[next] + region.range.bytes > budget) break;
      live[next] += region.range.bytes;
    }
  }
}

}  // namespace angel_ptm
