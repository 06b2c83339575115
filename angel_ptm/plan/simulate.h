// How long a Plan's steps take together: segments and programs are played with the waits that the executor obeys, one
// clock per lane, no machine.
//
// A step starts when the step before it in its lane and those it waits for have ended. While steps are under way the
// time of each runs at a speed of its own: 1, or where the steps of all lanes use more of something shared
// (plan/cost.h, Shared) than there is, capacity / use of the scarcest thing it uses. Between two starts or ends speeds
// are constant. All ranks are taken to do the same at the same time, so one is played.
#ifndef ANGEL_PTM_PLAN_SIMULATE_H_
#define ANGEL_PTM_PLAN_SIMULATE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "angel_ptm/plan/cost.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

struct StepSpan {
  double begin = 0, end = 0;  // seconds from the segment's start
};

struct LaneSeconds {
  double seconds = 0;
  std::array<double, kLaneCount> busy = {};      // in which the lane had a step under way
  std::array<double, kLaneCount> critical = {};  // of the steps on the path that ends last, each started by the end of
                                                 // the one before: they add up to `seconds`
};

struct SegmentTime : LaneSeconds {
  std::vector<StepSpan> spans;  // by step
};

// costs: by step. The waits must be those of a proved Plan: CHECK-fails if steps wait for each other.
SegmentTime SimulateSegment(const Segment& segment, const std::vector<StepCost>& costs,
                            const std::array<double, kSharedCount>& capacity);

// A segment in a step, in order; `times` equal plays are one entry.
struct PlayTime {
  int32_t segment = 0;
  MicroBatchKind micro_batch;
  int64_t times = 1;
  SegmentTime time;
};

struct StepTime : LaneSeconds {
  std::vector<PlayTime> plays;
  std::array<double, kLaneCount> bytes = {};  // moved, or of whole vectors in collectives, in the step by one rank
};

// A step of training of so many micro-batches of a rank (>= 1), in the run's steady state: where there is a joined
// segment, the step has been begun and begins the next. For a graph that is not trained: a pass.
StepTime SimulateStep(const Graph& graph, const Plan& plan, const CostModel& model, int64_t micro_batches);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SIMULATE_H_
