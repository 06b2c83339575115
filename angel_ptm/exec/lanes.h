// Four threads that play a segment's steps: each lane its own steps in order, waiting where a step says for other
// lanes.
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

class Lanes {
 public:
  // Runs step `index` of the segment; called on the step's lane. Must not allocate when it succeeds.
  using RunStep = std::function<absl::Status(const Segment& segment, int32_t index)>;

  explicit Lanes(RunStep run_step);
  ~Lanes();

  // Plays the whole segment and returns when all lanes are idle: OK, or the first failure in time; lanes stop at the
  // next step.
  absl::Status Play(const Segment& segment);

  // The steps of each lane, in order. Done once per segment, since playing allocates nothing.
  void Prepare(const Segment& segment);

  std::array<double, kLaneCount> TakeBusySeconds();

 private:
  struct Work {
    const Segment* segment = nullptr;
    std::array<std::vector<int32_t>, kLaneCount> steps;  // by lane
  };

  void ThreadMain(int lane);
  void PlayLane(const Work& work, int lane);
  // False if the segment failed meanwhile.
  bool WaitFor(const std::array<int32_t, kLaneCount>& waits);
  void Fail(absl::Status status);

  const RunStep run_step_;
  std::vector<Work> works_;

  std::mutex mutex_;
  std::condition_variable changed_;
  const Work* work_ = nullptr;
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
