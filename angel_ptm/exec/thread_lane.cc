// A lane that is a thread.
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "angel_ptm/exec/lanes.h"

namespace angel_ptm {
namespace {

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class ThreadLane final : public LaneQueue {
 public:
  ThreadLane() : thread_([this] { ThreadMain(); }) {}
  ~ThreadLane() override {
    play_ = nullptr;
    Publish(issued_);
    thread_.join();
  }

  void Begin(SegmentPlay& play) override {
    play_ = &play;
    begin_ = finished_.load(std::memory_order_relaxed);
  }

  void Issue(int32_t index) override {
    const uint32_t issued = issued_.load(std::memory_order_relaxed);
    Await(finished_, issued + 1 - kSlots);
    slots_[issued % kSlots] = index;
    Publish(issued_);
  }

  void AwaitFinished(int32_t count) override { Await(finished_, begin_ + static_cast<uint32_t>(count)); }

  double TakeBusySeconds() override { return static_cast<double>(busy_ns_.exchange(0)) * 1e-9; }

 private:
  // Counters run for the life of the lane and may wrap: only differences mean something.
  using Counter = std::atomic<uint32_t>;
  static constexpr uint32_t kSlots = 1024;

  static void Publish(Counter& counter) {
    counter.fetch_add(1, std::memory_order_release);
    counter.notify_all();
  }
  static void Await(const Counter& counter, uint32_t value) {
    uint32_t now = counter.load(std::memory_order_acquire);
    while (static_cast<int32_t>(now - value) < 0) {
      counter.wait(now, std::memory_order_acquire);
      now = counter.load(std::memory_order_acquire);
    }
  }

  void ThreadMain() {
    for (uint32_t taken = 0;; ++taken) {
      Await(issued_, taken + 1);
      if (play_ == nullptr) return;
      RunIssued(slots_[taken % kSlots]);
      Publish(finished_);
    }
  }

  void RunIssued(int32_t index) {
    const Step& step = play_->segment().steps[index];
    for (int lane = 0; lane < kLaneCount; ++lane) {
      if (step.waits[lane] > 0) play_->lane(static_cast<Lane>(lane)).AwaitFinished(step.waits[lane]);
    }
    const int64_t begin = NowNs();
    play_->Run(index);
    busy_ns_.fetch_add(NowNs() - begin, std::memory_order_relaxed);
  }

  // Written between segments, while the lane is idle; null ends the thread.
  SegmentPlay* play_ = nullptr;
  uint32_t begin_ = 0;  // finished_ when the segment began

  std::array<int32_t, kSlots> slots_;  // what was issued, by number
  Counter issued_ = 0, finished_ = 0;
  std::atomic<int64_t> busy_ns_ = 0;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<LaneQueue> MakeThreadLane() { return std::make_unique<ThreadLane>(); }

}  // namespace angel_ptm
