// What a thread lane and a stream lane have in common: a thread to which steps are handed over by number and which does
// them in order.
#ifndef ANGEL_PTM_EXEC_STEP_THREAD_H_
#define ANGEL_PTM_EXEC_STEP_THREAD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

namespace angel_ptm {

class StepThread {
 public:
  // `work` is called on the thread, for one step after another.
  explicit StepThread(std::function<void(int32_t index)> work);
  ~StepThread();  // ends after the last step

  // A segment begins; the thread is idle. AwaitDone counts from here.
  void Begin() { begin_ = done_.load(std::memory_order_relaxed); }
  // Returns immediately, or when there is room. One caller at a time.
  void Issue(int32_t index);
  // Blocks until work has returned for the first `count` steps of the segment. Any thread.
  void AwaitDone(int32_t count) const { Await(done_, begin_ + static_cast<uint32_t>(count)); }

 private:
  // Counters run for the life of the thread and may wrap: only differences mean something.
  using Counter = std::atomic<uint32_t>;
  static constexpr uint32_t kSlots = 1024;
  static constexpr int32_t kEnd = -1;

  static void Publish(Counter& counter);
  static void Await(const Counter& counter, uint32_t value);
  void ThreadMain();

  const std::function<void(int32_t index)> work_;
  uint32_t begin_ = 0;                 // done_ when the segment began; written while the thread is idle
  std::array<int32_t, kSlots> slots_;  // what was issued, by number
  Counter issued_ = 0, done_ = 0;
  std::thread thread_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STEP_THREAD_H_
