// Lanes play a segment's steps: the player issues them one by one, in the segment's order, and each lane runs its own
// steps in that order, waiting for other lanes where a step says so.
//
// A rank has one Lanes, shared by all its Executors: the compute lane's OpenMP team belongs to the lane's thread, so a
// second compute thread would bring a second team, made in the middle of a run, and twice the threads.
#ifndef ANGEL_PTM_EXEC_LANES_H_
#define ANGEL_PTM_EXEC_LANES_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Runs step `index` of the segment, or puts it on the lane's stream; called by the step's lane. Must not allocate when
// it succeeds.
using RunStep = std::function<absl::Status(const Segment& segment, int32_t index)>;
// What to call step `index` in errors.
using NameStep = std::function<std::string(const Segment& segment, int32_t index)>;

class DeviceStream;
class LaneQueue;
class StepGraphs;

// How a lane that is a stream may repeat runs of steps as graphs (step_graphs.h). Called by that lane.
struct StepReplay {
  StepGraphs* graphs = nullptr;
  // Does on the host what is left of a step whose work is put by a graph. Must not allocate when it succeeds.
  RunStep follow;
  // The variant of a run that is about to be put; `updates` says whether the run has updates. What the run's steps put
  // on the stream is the same whenever the variant is the same. From 0 to StepGraphs::kVariants - 1, or negative if the
  // steps are to be put one by one.
  std::function<int32_t(bool updates)> variant;
};

// One segment being played, as its lanes see it.
class SegmentPlay {
 public:
  virtual ~SegmentPlay() = default;
  virtual const Segment& segment() const = 0;
  virtual LaneQueue& lane(Lane lane) const = 0;
  // Runs the step, unless a step has failed before.
  virtual void Run(int32_t index) = 0;
  // Does what is left of the step where a graph puts its work, unless a step has failed before.
  virtual void Follow(int32_t index) = 0;
  // Null: all steps are put one by one.
  virtual const StepReplay* replay() const = 0;
  virtual bool failed() const = 0;
  // Reports that the work that Run put on a stream has failed: that of this step or of one soon after it.
  virtual void Fail(int32_t index, const absl::Status& status) = 0;
};

// One lane: a thread (MakeThreadLane) or a device's stream (stream_lane.h). The player knows no other difference
// between them.
class LaneQueue {
 public:
  virtual ~LaneQueue() = default;
  // A segment begins, none of whose steps has been issued. The lane is idle.
  virtual void Begin(SegmentPlay& play) = 0;
  // Has play.Run(index) called after all steps issued to this lane before, as soon as every lane l has finished the
  // first waits[l] of its own. Returns immediately, or when there is room for the step. Also called when the segment
  // has failed: a step that is not run counts as finished.
  virtual void Issue(int32_t index) = 0;
  // Blocks the caller, any thread, until the first `count` of the segment's steps on this lane have finished.
  virtual void AwaitFinished(int32_t count) = 0;
  // Makes what is put on `stream` from now on begin after the first `count` of the segment's steps on this lane. Blocks
  // the caller until those have finished or, if this lane is a stream itself, until they have been put on it.
  virtual absl::Status Precede(DeviceStream& stream, int32_t count);
  // Seconds spent in steps since the last call.
  virtual double TakeBusySeconds() = 0;
};

std::unique_ptr<LaneQueue> MakeThreadLane();

// Thread safety: one player at a time.
class Lanes {
 public:
  using Queues = std::array<std::unique_ptr<LaneQueue>, kLaneCount>;
  // All lanes are threads.
  Lanes();
  explicit Lanes(Queues queues);
  ~Lanes();

  // Plays the whole segment and returns when all lanes are idle: OK, or the failure that came first, after which no
  // step runs.
  absl::Status Play(const Segment& segment, const RunStep& run_step, const NameStep& name_step = nullptr,
                    const StepReplay* replay = nullptr);

  // Seconds each lane spent in steps since the last call, whoever played them.
  std::array<double, kLaneCount> TakeBusySeconds();

 private:
  class Player;
  Queues queues_;
  const std::unique_ptr<Player> player_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_LANES_H_
