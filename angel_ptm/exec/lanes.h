// Four threads that play a segment's steps: each lane its own steps in order, waiting where a step says for other
// lanes.
//
// A rank has one Lanes, shared by all its Executors: the compute lane's OpenMP team belongs to its thread, so a second
// compute thread would bring a second team, made in the middle of a run, and twice the threads.
#ifndef ANGEL_PTM_EXEC_LANES_H_
#define ANGEL_PTM_EXEC_LANES_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// A segment's steps by lane, in order. Made once per segment, since playing allocates nothing.
struct LaneSteps {
  explicit LaneSteps(const Segment& segment);  // which must outlive it

  const Segment* segment = nullptr;
  std::array<std::vector<int32_t>, kLaneCount> steps;
};

// Thread safety: one player at a time.
class Lanes {
 public:
  // Runs step `index` of the segment; called on the step's lane. Must not allocate when it succeeds.
  using RunStep = std::function<absl::Status(const Segment& segment, int32_t index)>;

  Lanes();
  ~Lanes();

  // Plays the whole segment and returns when all lanes are idle: OK, or the first failure in time; lanes stop at the
  // next step.
  absl::Status Play(const LaneSteps& steps, const RunStep& run_step);

  // Seconds each lane spent in steps since the last call, whoever played them.
  std::array<double, kLaneCount> TakeBusySeconds();

 private:
  void ThreadMain(int lane);
  void PlayLane(const LaneSteps& steps, const RunStep& run_step, int lane);
  // False if the segment failed meanwhile.
  bool WaitFor(const std::array<int32_t, kLaneCount>& waits);
  void Fail(absl::Status status);

  std::mutex mutex_;
  std::condition_variable changed_;
  const LaneSteps* steps_ = nullptr;
  const RunStep* run_step_ = nullptr;
  int64_t generation_ = 0;
  int idle_ = kLaneCount;
  bool stop_ = false;
  absl::Status status_;

  std::atomic<bool> failed_ = false;
  std::array<std::atomic<int32_t>, kLaneCount> finished_ = {};
  std::array<std::atomic<int64_t>, kLaneCount> busy_ns_ = {};
  std::array<std::thread, kLaneCount> threads_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_LANES_H_
