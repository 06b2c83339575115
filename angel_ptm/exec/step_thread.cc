#include "angel_ptm/exec/step_thread.h"

#include <utility>

namespace angel_ptm {

StepThread::StepThread(std::function<void(int32_t index)> work)
    : work_(std::move(work)), thread_([this] { ThreadMain(); }) {}

StepThread::~StepThread() {
  Issue(kEnd);
  thread_.join();
}

void StepThread::Issue(int32_t index) {
  const uint32_t issued = issued_.load(std::memory_order_relaxed);
  Await(done_, issued + 1 - kSlots);
  slots_[issued % kSlots] = index;
  Publish(issued_);
}

void StepThread::Publish(Counter& counter) {
  counter.fetch_add(1, std::memory_order_release);
  counter.notify_all();
}

void StepThread::Await(const Counter& counter, uint32_t value) {
  uint32_t now = counter.load(std::memory_order_acquire);
  while (static_cast<int32_t>(now - value) < 0) {
    counter.wait(now, std::memory_order_acquire);
    now = counter.load(std::memory_order_acquire);
  }
}

void StepThread::ThreadMain() {
  for (uint32_t taken = 0;; ++taken) {
    Await(issued_, taken + 1);
    const int32_t index = slots_[taken % kSlots];
    if (index == kEnd) return;
    work_(index);
    Publish(done_);
  }
}

}  // namespace angel_ptm
