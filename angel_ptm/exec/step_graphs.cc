#include "angel_ptm/exec/step_graphs.h"

#include <algorithm>

namespace angel_ptm {
namespace {

constexpr int32_t kRunStepsMax = 128;  // a lane has room for more

}  // namespace

StepGraphs::StepGraphs(const Segment& segment, Lane lane) : lane_(lane), run_of_(segment.steps.size(), -1) {
  const int own = static_cast<int>(lane);
  std::vector<bool> awaited(segment.steps.size() + 1);  // by number of own steps: does another lane wait for so many?
  for (const Step& step : segment.steps) {
    if (step.lane != lane) awaited[step.waits[own]] = true;
  }
  std::vector<std::vector<int32_t>> runs;
  std::array<int32_t, kLaneCount> waited = {};
  int32_t count = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
    const Step& step = segment.steps[i];
    if (step.lane != lane) continue;
    bool waits = false;
    for (int other = 0; other < kLaneCount; ++other) {
      if (other == own || step.waits[other] <= waited[other]) continue;
      waited[other] = step.waits[other];
      waits = true;
    }
    if (runs.empty() || waits || awaited[count] || runs.back().size() == kRunStepsMax) runs.emplace_back();
    runs.back().push_back(i);
    ++count;
  }
  for (const std::vector<int32_t>& steps : runs) {
    if (steps.size() < 2) continue;
    Run run{.first = steps.front(), .last = steps.back(), .steps = static_cast<uint32_t>(steps.size())};
    for (const int32_t i : steps) {
      run_of_[i] = static_cast<int32_t>(runs_.size());
      run.updates |= segment.steps[i].kind == StepKind::kUpdate;
    }
    runs_.push_back(std::move(run));
  }
}

}  // namespace angel_ptm
