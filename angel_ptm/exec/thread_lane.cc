// A lane that is a thread.
#include <atomic>
#include <chrono>

#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/exec/step_thread.h"

namespace angel_ptm {
namespace {

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class ThreadLane final : public LaneQueue {
 public:
  ThreadLane() : thread_([this](int32_t index) { RunIssued(index); }) {}

  void Begin(SegmentPlay& play) override {
    play_ = &play;
    thread_.Begin();
  }
  void Issue(int32_t index) override { thread_.Issue(index); }
  void AwaitFinished(int32_t count) override { thread_.AwaitDone(count); }
  double TakeBusySeconds() override { return static_cast<double>(busy_ns_.exchange(0)) * 1e-9; }

 private:
  void RunIssued(int32_t index) {
    const Step& step = play_->segment().steps[index];
    for (int lane = 0; lane < kLaneCount; ++lane) {
      if (step.waits[lane] > 0) play_->lane(static_cast<Lane>(lane)).AwaitFinished(step.waits[lane]);
    }
    const int64_t begin = NowNs();
    play_->Run(index);
    busy_ns_.fetch_add(NowNs() - begin, std::memory_order_relaxed);
  }

  SegmentPlay* play_ = nullptr;  // written between segments, while the lane is idle
  std::atomic<int64_t> busy_ns_ = 0;
  StepThread thread_;  // last: ends first
};

}  // namespace

std::unique_ptr<LaneQueue> MakeThreadLane() { return std::make_unique<ThreadLane>(); }

}  // namespace angel_ptm
