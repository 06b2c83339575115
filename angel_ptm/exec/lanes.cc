#include "angel_ptm/exec/lanes.h"

#include <chrono>
#include <limits>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Added to every lane's count on failure, so that nobody waits any more.
constexpr int32_t kReleaseAll = std::numeric_limits<int32_t>::max() / 2;

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

LaneSteps::LaneSteps(const Segment& of) : segment(&of) {
  for (int32_t i = 0; i < static_cast<int32_t>(of.steps.size()); ++i) {
    steps[static_cast<int>(of.steps[i].lane)].push_back(i);
  }
}

Lanes::Lanes() {
  for (int lane = 0; lane < kLaneCount; ++lane) threads_[lane] = std::thread([this, lane] { ThreadMain(lane); });
}

Lanes::~Lanes() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status Lanes::Play(const LaneSteps& steps, const RunStep& run_step) {
  std::unique_lock<std::mutex> lock(mutex_);
  APTM_CHECK(idle_ == kLaneCount, "two players at a time");
  steps_ = &steps;
  run_step_ = &run_step;
  for (auto& f : finished_) f.store(0, std::memory_order_relaxed);
  failed_ = false;
  status_ = absl::OkStatus();
  idle_ = 0;
  ++generation_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return idle_ == kLaneCount; });
  return status_;
}

void Lanes::ThreadMain(int lane) {
  int64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    const LaneSteps& steps = *steps_;
    const RunStep& run_step = *run_step_;
    lock.unlock();
    PlayLane(steps, run_step, lane);
    lock.lock();
    if (++idle_ == kLaneCount) changed_.notify_all();
  }
}

void Lanes::PlayLane(const LaneSteps& steps, const RunStep& run_step, int lane) {
  for (int32_t index : steps.steps[lane]) {
    if (!WaitFor(steps.segment->steps[index].waits)) break;
    const int64_t begin = NowNs();
    absl::Status status = run_step(*steps.segment, index);
    busy_ns_[lane].fetch_add(NowNs() - begin, std::memory_order_relaxed);
    if (!status.ok()) {
      Fail(std::move(status));
      break;
    }
    finished_[lane].fetch_add(1, std::memory_order_release);
    finished_[lane].notify_all();
  }
}

bool Lanes::WaitFor(const std::array<int32_t, kLaneCount>& waits) {
  for (int lane = 0; lane < kLaneCount; ++lane) {
    int32_t finished = finished_[lane].load(std::memory_order_acquire);
    while (finished < waits[lane]) {
      finished_[lane].wait(finished, std::memory_order_acquire);
      finished = finished_[lane].load(std::memory_order_acquire);
    }
  }
  return !failed_.load(std::memory_order_acquire);
}

void Lanes::Fail(absl::Status status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
  }
  if (failed_.exchange(true)) return;
  for (auto& f : finished_) {
    f.fetch_add(kReleaseAll, std::memory_order_release);
    f.notify_all();
  }
}

std::array<double, kLaneCount> Lanes::TakeBusySeconds() {
  std::array<double, kLaneCount> seconds;
  for (int lane = 0; lane < kLaneCount; ++lane) seconds[lane] = static_cast<double>(busy_ns_[lane].exchange(0)) * 1e-9;
  return seconds;
}

}  // namespace angel_ptm
