// Time during which a waiter itself ran. A job that was suspended (Ctrl-Z, scontrol suspend, a paused virtual machine)
// finds that minutes have passed between two looks at the clock, during which its peers were suspended, too, and gave
// no sign of life.
#ifndef ANGEL_PTM_COMM_RUNNING_TIME_H_
#define ANGEL_PTM_COMM_RUNNING_TIME_H_

#include <algorithm>
#include <chrono>

namespace angel_ptm {

class RunningTime {
 public:
  // The most that the time between two looks can count. Waiters look every 50 to 200 ms, so a longer gap is time
  // without a core, on a busy machine or in a suspended job.
  static constexpr double kGapSecondsMax = 0.5;

  explicit RunningTime(double now_seconds = Now()) : last_(now_seconds) {}

  // Returns the seconds that count since the previous look.
  double Look(double now_seconds = Now()) {
    const double gap = std::clamp(now_seconds - last_, 0.0, kGapSecondsMax);
    last_ = now_seconds;
    total_ += gap;
    return gap;
  }
  // The sum over all looks.
  double seconds() const { return total_; }

 private:
  static double Now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  double last_, total_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_RUNNING_TIME_H_
