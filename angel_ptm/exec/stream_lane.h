// A lane that is a stream of a GPU.
//
// A thread of its own puts the lane's steps on the stream. Where a step waits for a lane that is a stream too, its
// stream is told to wait for an event, and the thread goes on; where it waits for a lane that is a thread
// (communication, files, the host's updates), the thread itself waits. Not the player's thread, which would keep all
// other lanes waiting; and not a function that the stream calls on the host: those share one thread of the driver, so
// that two that wait for lanes which wait for each other's streams would never end.
//
// Runs of steps between which nobody waits may be one graph (step_graphs.h): captured when they are put for the first
// time, launched from then on. Their events and times are the run's.
//
// An event is waited for only after it was recorded: a stream that follows one that was not waits for nothing.
#ifndef ANGEL_PTM_EXEC_STREAM_LANE_H_
#define ANGEL_PTM_EXEC_STREAM_LANE_H_

#include <functional>
#include <memory>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/memory/device.h"

namespace angel_ptm {

// RunStep puts this lane's work on `stream`, which must outlive the lane. Seconds are the GPU's. Errors of the work are
// those of the segment's play; they name the first step that is not known to have finished. So are errors of `judge`,
// which is asked, by any thread, before a step whose work has ended counts as finished; it may be empty.
absl::StatusOr<std::unique_ptr<LaneQueue>> MakeStreamLane(DeviceStream& stream,
                                                          std::function<absl::Status()> judge = {});

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STREAM_LANE_H_
