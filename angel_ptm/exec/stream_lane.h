// A lane that is a stream of a GPU.
//
// A thread of the lane's own puts its steps on the stream. Where a step waits for a lane that is a stream too, the
// lane's stream is told to wait for an event, and the thread goes on. Where the step waits for a lane that is a thread
// (communication, files, the host's updates), the lane's thread itself waits. The player's thread does not wait,
// because it would keep all other lanes waiting; nor does a function that the stream calls on the host, because such
// functions share one thread of the driver, so that two of them that wait for lanes which wait for each other's streams
// would never end.
//
// Runs of steps between which nobody waits may be one graph (step_graphs.h): captured when they are put for the first
// time, launched from then on. Events and times are then those of the run.
//
// An event is waited for only after it was recorded: a stream that follows an event that was never recorded waits for
// nothing.
#ifndef ANGEL_PTM_EXEC_STREAM_LANE_H_
#define ANGEL_PTM_EXEC_STREAM_LANE_H_

#include <functional>
#include <memory>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/memory/device.h"

namespace angel_ptm {

// RunStep puts this lane's work on `stream`, which must outlive the lane. Busy seconds are the GPU's. Errors of the
// work become errors of the segment's play, and name the first step that is not known to have finished. So do errors of
// `judge`, which any thread may call before a step whose work has ended counts as finished; it may be empty.
absl::StatusOr<std::unique_ptr<LaneQueue>> MakeStreamLane(DeviceStream& stream,
                                                          std::function<absl::Status()> judge = {});

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STREAM_LANE_H_
