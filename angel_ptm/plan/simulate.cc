#include "angel_ptm/plan/simulate.h"

#include <algorithm>
#include <limits>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

class Simulation {
 public:
  Simulation(const Segment& segment, const std::vector<StepCost>& costs,
             const std::array<double, kSharedCount>& capacity)
      : segment_(segment), costs_(costs), capacity_(capacity), cause_(segment.steps.size(), kNone) {
    APTM_CHECK(costs.size() == segment.steps.size());
    time_.spans.resize(segment.steps.size());
    for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
      lanes_[static_cast<int>(segment.steps[i].lane)].steps.push_back(i);
    }
  }

  SegmentTime Run() {
    size_t left = segment_.steps.size();
    while (left > 0) {
      StartSteps();
      left -= Advance();
    }
    time_.seconds = now_;
    for (int32_t i = last_; i != kNone; i = cause_[i]) {
      time_.critical[static_cast<int>(segment_.steps[i].lane)] += time_.spans[i].end - time_.spans[i].begin;
    }
    return std::move(time_);
  }

 private:
  struct LaneState {
    std::vector<int32_t> steps;
    size_t ended = 0;  // steps [0, ended) have ended; steps[ended] is running or waiting
    bool running = false;
    double left = 0;  // to do in the running step, in seconds at speed 1
  };

  // Returns false if a step that this one waits for has not ended. Else sets *cause to the last of those steps to end.
  bool MayStart(const LaneState& lane, int32_t step, int32_t* cause) const {
    *cause = lane.ended == 0 ? kNone : lane.steps[lane.ended - 1];
    const auto& waits = segment_.steps[step].waits;
    for (int l = 0; l < kLaneCount; ++l) {
      if (waits[l] == 0) continue;
      if (static_cast<size_t>(waits[l]) > lanes_[l].ended) return false;
      const int32_t other = lanes_[l].steps[waits[l] - 1];
      if (*cause == kNone || time_.spans[other].end > time_.spans[*cause].end) *cause = other;
    }
    return true;
  }

  void StartSteps() {
    for (LaneState& lane : lanes_) {
      if (lane.running || lane.ended == lane.steps.size()) continue;
      const int32_t step = lane.steps[lane.ended];
      if (!MayStart(lane, step, &cause_[step])) continue;
      lane.running = true;
      lane.left = costs_[step].seconds;
      time_.spans[step].begin = now_;
    }
  }

  double SpeedOf(const LaneState& lane, const std::array<double, kSharedCount>& used) const {
    double speed = 1;
    for (int s = 0; s < kSharedCount; ++s) {
      if (costs_[lane.steps[lane.ended]].uses[s] > 0 && used[s] > capacity_[s]) {
        speed = std::min(speed, capacity_[s] / used[s]);
      }
    }
    return speed;
  }

  // Advances to the next end of a step; returns how many steps end then.
  size_t Advance() {
    std::array<double, kSharedCount> used = {};
    for (const LaneState& lane : lanes_) {
      if (!lane.running) continue;
      for (int s = 0; s < kSharedCount; ++s) used[s] += costs_[lane.steps[lane.ended]].uses[s];
    }
    std::array<double, kLaneCount> speeds = {};
    double elapsed = std::numeric_limits<double>::infinity();
    for (int l = 0; l < kLaneCount; ++l) {
      if (!lanes_[l].running) continue;
      speeds[l] = SpeedOf(lanes_[l], used);
      elapsed = std::min(elapsed, lanes_[l].left / speeds[l]);
    }
    APTM_CHECK(elapsed < std::numeric_limits<double>::infinity(), "steps of ", segment_.name, " wait for each other");
    now_ += elapsed;
    size_t ended = 0;
    for (int l = 0; l < kLaneCount; ++l) {
      LaneState& lane = lanes_[l];
      if (!lane.running) continue;
      time_.busy[l] += elapsed;
      // The step that determined `elapsed` ends regardless of rounding.
      const bool ends = lane.left / speeds[l] <= elapsed;
      lane.left -= elapsed * speeds[l];
      if (!ends) continue;
      last_ = lane.steps[lane.ended];
      time_.spans[last_].end = now_;
      lane.running = false;
      ++lane.ended;
      ++ended;
    }
    return ended;
  }

  const Segment& segment_;
  const std::vector<StepCost>& costs_;
  const std::array<double, kSharedCount> capacity_;
  std::array<LaneState, kLaneCount> lanes_;
  std::vector<int32_t> cause_;  // by step: the step whose end let it start
  SegmentTime time_;
  double now_ = 0;
  int32_t last_ = kNone;  // the step that ended last
};

void Add(LaneSeconds& sum, const LaneSeconds& part, int64_t times) {
  const double n = static_cast<double>(times);
  sum.seconds += n * part.seconds;
  for (int l = 0; l < kLaneCount; ++l) {
    sum.busy[l] += n * part.busy[l];
    sum.critical[l] += n * part.critical[l];
  }
}

double BytesOf(const Step& step, const MicroBatchKind& micro_batch) {
  if (step.when == When::kAccumulating && micro_batch.first) return 0;
  return static_cast<double>(step.kind == StepKind::kMove ? step.dst.bytes : ExchangedBytes(step));
}

}  // namespace

SegmentTime SimulateSegment(const Segment& segment, const std::vector<StepCost>& costs,
                            const std::array<double, kSharedCount>& capacity) {
  return Simulation(segment, costs, capacity).Run();
}

StepTime SimulateStep(const Graph& graph, const Plan& plan, const CostModel& model, int64_t micro_batches) {
  APTM_CHECK(micro_batches >= 1 && !plan.programs.empty());
  const Program* program = plan.FindProgram(/*begun=*/true, /*begins_next=*/true);
  if (program == nullptr) program = &plan.programs.front();
  StepTime step;
  const auto play = [&](int32_t segment, const MicroBatchKind& kind, int64_t times) {
    if (times <= 0) return;
    const std::vector<StepCost> costs = CostsOf(graph, plan, plan.segments[segment], model, kind);
    step.plays.push_back({segment, kind, times, SimulateSegment(plan.segments[segment], costs, model.capacity)});
    Add(step, step.plays.back().time, times);
    for (const Step& s : plan.segments[segment].steps) {
      step.bytes[static_cast<int>(s.lane)] += static_cast<double>(times) * BytesOf(s, kind);
    }
  };
  for (const Play& p : program->plays) {
    if (p.times == Play::Times::kOnce) {
      play(p.segment, {.first = true, .last = micro_batches == 1}, 1);
      continue;
    }
    if (p.times == Play::Times::kEachMicroBatch) play(p.segment, {.first = true, .last = micro_batches == 1}, 1);
    play(p.segment, {.first = false, .last = false}, micro_batches - 2);
    if (micro_batches > 1) play(p.segment, {.first = false, .last = true}, 1);
  }
  return step;
}

}  // namespace angel_ptm
