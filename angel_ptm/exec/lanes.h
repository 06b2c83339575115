// Lanes play a segment's steps: the player issues them one by one, in the segment's order, and each lane runs its own
// in that order, waiting where a step says for other lanes.
//
// A rank has one Lanes, shared by all its Executors: the compute lane's OpenMP team belongs to its thread, so a second
// compute thread would bring a second team, made in the middle of a run, and twice the threads.
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
  // What a step does on the host where its work is put by a graph. Must not allocate when it succeeds.
  RunStep follow;
  // Of a run that is about to be put, whether or not it has updates: what its steps put on the stream is the same
  // whenever this is; from 0 to StepGraphs::kVariants - 1, or less if they are to be put step by step.
  std::function<int32_t(bool updates)> variant;
};

// One segment being played, as its lanes see it.
class SegmentPlay {
 public:
  virtual ~SegmentPlay() = default;
  virtual const Segment& segment() const = 0;
  virtual LaneQueue& lane(Lane lane) const = 0;
  // Runs the step, unless one has failed before.
  virtual void Run(int32_t index) = 0;
  // Does what is left of the step where a graph puts its work, unless one has failed before.
  virtual void Follow(int32_t index) = 0;
  // Null: all steps are put step by step.
  virtual const StepReplay* replay() const = 0;
  virtual bool failed() const = 0;
  // The work that Run put on a stream went wrong, of this step or of one soon behind it.
  virtual void Fail(int32_t index, const absl::Status& status) = 0;
};

// One lane: a thread (MakeThreadLane) or a device's stream (stream_lane.h). The player knows no other difference
// between them.
class LaneQueue {
 public:
  virtual ~LaneQueue() = default;
  // A segment begins: of its steps none has been issued. The lane is idle.
  virtual void Begin(SegmentPlay& play) = 0;
  // Has play.Run(index) called behind all steps issued to this lane before, as soon as every lane l has finished the
  // first waits[l] of its own. Returns at once, or when there is room for the step. Also called when the segment has
  // failed: a step that is not run counts as finished.
  virtual void Issue(int32_t index) = 0;
  // Blocks the caller, any thread, until the first `count` of the segment's steps on this lane have finished.
  virtual void AwaitFinished(int32_t count) = 0;
  // Has what is put on `stream` from now on begin behind the first `count` of the segment's steps on this lane. Blocks
  // the caller until they have finished; a lane that is a stream itself, until they have been put on it.
  virtual absl::Status Precede(DeviceStream& stream, int32_t count);
  // Seconds spent in steps since the last call.
  virtual double TakeBusySeconds() = 0;
};

std::unique_ptr<LaneQueue> MakeThreadLane();

// Thread safety: one player at a time.
class Lanes {
 public:
  using Queues = std::array<std::unique_ptr<LaneQueue>, kLaneCount>;
  // Threads.
  Lanes();
  explicit Lanes(Queues queues);
  ~Lanes();

  // Plays the whole segment and returns when all lanes are idle: OK, or the first failure in time; behind it no step
  // runs.
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
