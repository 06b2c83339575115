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

// Moves steps while keeping lifetimes and live device bytes exact, at the cost of the steps that change places.
class Mover {
 public:
  Mover(const Graph& graph, Segment& segment, int64_t budget, int prefetch_steps)
      : graph_(graph), segment_(segment), budget_(budget), prefetch_steps_(prefetch_steps) {
    UpdateLifetimes(segment);
    live_ = LiveBytes(segment, TierKind::kDevice);
    marks_.resize(segment.regions.size());
  }

  // Brings step i, an arrival, forward as far as budget, prefetch distance, data flow and its lane allow.
  void Advance(int32_t i) {
    const Step& arrival = segment_.steps[i];
    const Region& dst = segment_.regions[arrival.dst.region];
    const int64_t new_bytes = !dst.permanent && dst.first_step == i ? dst.range.bytes : 0;
    int32_t target = i;
    for (int crossed = 0; target > 0; --target) {
      const Step& before = segment_.steps[target - 1];
      if (before.lane == Lane::kCompute && ++crossed > prefetch_steps_) break;
      if (Arrives(before) && before.lane == arrival.lane) break;
      if (Conflict(graph_, arrival, before) || live_[target - 1] + new_bytes > budget_) break;
    }
    if (target < i) Rotate(target, i);
  }

  // Lets regions that end with a departure live on.
  void Linger() {
    const int32_t steps = static_cast<int32_t>(segment_.steps.size());
    for (Region& region : segment_.regions) {
      if (!OnDevice(region) || !Leaves(segment_.steps[region.last_step])) continue;
      for (int crossed = 0; region.last_step + 1 < steps; ++region.last_step) {
        const int32_t next = region.last_step + 1;
        if (segment_.steps[next].lane == Lane::kCompute && ++crossed > prefetch_steps_) break;
        if (live_[next] + region.range.bytes > budget_) break;
        live_[next] += region.range.bytes;
      }
    }
  }

 private:
  static bool OnDevice(const Region& region) {
    return !region.permanent && region.first_step != kNone && region.range.tier == TierKind::kDevice;
  }

  // Step `last` becomes step `first`, those between move back by one.
  void Rotate(int32_t first, int32_t last) {
    int64_t live = first == 0 ? 0 : live_[first - 1] - DyingAt(first - 1);
    std::rotate(segment_.steps.begin() + first, segment_.steps.begin() + last, segment_.steps.begin() + last + 1);
    CollectTouches(first, last);
    change_.assign(last - first + 2, 0);
    for (const Touches& touches : touches_) {
      Region& region = segment_.regions[touches.region];
      if (region.first_step >= first) region.first_step = touches.first;
      if (region.last_step <= last) region.last_step = touches.last;
      if (!OnDevice(region)) continue;
      if (region.first_step >= first) change_[region.first_step - first] += region.range.bytes;
      if (region.last_step <= last) change_[region.last_step + 1 - first] -= region.range.bytes;
    }
    for (int32_t i = first; i <= last; ++i) live_[i] = live += change_[i - first];
  }

  // Bytes of the regions whose last use is step i.
  int64_t DyingAt(int32_t i) {
    CollectTouches(i, i);
    int64_t bytes = 0;
    for (const Touches& touches : touches_) {
      const Region& region = segment_.regions[touches.region];
      if (OnDevice(region) && region.last_step == i) bytes += region.range.bytes;
    }
    return bytes;
  }

  // Sets touches_ to the regions that steps [first, last] touch. All other regions live through these steps or not at
  // all.
  void CollectTouches(int32_t first, int32_t last) {
    touches_.clear();
    ++stamp_;
    for (int32_t i = first; i <= last; ++i) {
      ForEachPlace(graph_, segment_.steps[i], [&](const Place& place, bool) {
        Mark& mark = marks_[place.region];
        if (mark.stamp != stamp_) {
          mark = {stamp_, touches_.size()};
          touches_.push_back({place.region, i, i});
        }
        touches_[mark.index].last = i;
      });
    }
  }

  struct Touches {
    int32_t region, first, last;  // first and last step of the window that touch it
  };
  struct Mark {
    int64_t stamp = 0;
    size_t index = 0;  // into touches_, if the stamp is the current one
  };

  const Graph& graph_;
  Segment& segment_;
  const int64_t budget_;
  const int prefetch_steps_;
  std::vector<int64_t> live_;    // transient device bytes, by step
  std::vector<int64_t> change_;  // of live bytes, by step of a window
  std::vector<Touches> touches_;
  std::vector<Mark> marks_;  // by region
  int64_t stamp_ = 0;
};

}  // namespace

void StartEarly(const Graph& graph, Segment& segment, int64_t budget, int prefetch_steps) {
  Mover mover(graph, segment, budget, prefetch_steps);
  for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
    if (Arrives(segment.steps[i])) mover.Advance(i);
  }
  mover.Linger();
}

}  // namespace angel_ptm
