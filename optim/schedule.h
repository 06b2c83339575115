// The learning rate schedule and the clip factor.
#ifndef ANGEL_PTM_OPTIM_SCHEDULE_H_
#define ANGEL_PTM_OPTIM_SCHEDULE_H_

#include <cstdint>

namespace angel_ptm {

enum class ScheduleKind { kConstant, kLinear, kCosine };

struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double peak = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
  double final_ratio = 0;  // ratio of the last step's learning rate to the peak

  // The learning rate of step `step` (0-based): peak * (step+1)/warmup during warm-up, then from peak to peak *
  // final_ratio at step total_steps - 1 along a cosine (Loshchilov & Hutter 2017) or a line, or constant at the peak.
  double At(int64_t step) const;
};

// The factor on the gradients that reduces a global norm above `norm_max` to `norm_max`. Returns 1 if the norm is not
// above it, or if norm_max is 0 (clipping off).
double ClipFactor(double norm, double norm_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_OPTIM_SCHEDULE_H_
