// Predicts how long a Plan's steps take together. Plays segments and programs with the waits that the executor obeys
// and one clock per lane, without a machine.
//
// A step starts when the previous step of its lane and all steps it waits for have ended. A running step progresses at
// speed 1, unless it uses an oversubscribed shared resource (plan/cost.h, Shared): then at capacity / total use of the
// scarcest resource that it uses. Speeds are constant between two consecutive starts or ends. All ranks are assumed to
// do the same at the same time, so only one is simulated.
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
  // Time during which the lane ran a step.
  std::array<double, kLaneCount> busy = {};
  // Time of the lane's steps on the critical path: the chain of steps, each started by the end of the previous one,
  // that ends last. The entries add up to `seconds`.
  std::array<double, kLaneCount> critical = {};
};

struct SegmentTime : LaneSeconds {
  std::vector<StepSpan> spans;  // by step
};

// costs: by step. The waits must be those of a proved Plan: CHECK-fails on a cycle of waits.
SegmentTime SimulateSegment(const Segment& segment, const std::vector<StepCost>& costs,
                            const std::array<double, kSharedCount>& capacity);

// One segment of a step, in order of play; `times` equal plays form one entry.
struct PlayTime {
  int32_t segment = 0;
  MicroBatchKind micro_batch;
  int64_t times = 1;
  SegmentTime time;
};

struct StepTime : LaneSeconds {
  std::vector<PlayTime> plays;
  std::array<double, kLaneCount> bytes = {};  // per rank and step: moved, or whole vectors of collectives
};

// Simulates a training step with `micro_batches` (>= 1) micro-batches per rank in the run's steady state: if there is a
// joined segment, the step has already been begun and begins the next one. For a graph that is not trained, simulates a
// pass.
StepTime SimulateStep(const Graph& graph, const Plan& plan, const CostModel& model, int64_t micro_batches);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_SIMULATE_H_
