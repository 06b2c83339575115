#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace angel_ptm {

double LearningRateSchedule::At(int64_t step) const {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  if (kind == ScheduleKind::kConstant) return peak;
  const int64_t decay_steps = std::max<int64_t>(1, total_steps - 1 - warmup_steps);
  const double progress = std::min(1.0, static_cast<double>(step - warmup_steps) / static_cast<double>(decay_steps));
  const double shape = kind == ScheduleKind::kLinear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return peak * (final_ratio + (1 - final_ratio) * shape);
}

double ClipFactor(double norm, double norm_max) { return norm_max > 0 && norm > norm_max ? norm_max / norm : 1.0; }

}  // namespace angel_ptm
