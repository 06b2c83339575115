#include "angel_ptm/exec/device_side.h"

#include <algorithm>

#include "angel_ptm/exec/staged_collectives.h"
#include "angel_ptm/exec/stream_lane.h"

namespace angel_ptm {

absl::StatusOr<std::unique_ptr<DeviceSide>> DeviceSide::Create(Device& device, const Layout& layout,
                                                               Communicator& communicator, int threads) {
  std::unique_ptr<DeviceSide> side(new DeviceSide(device));
  int64_t slice_elements_max = 0;
  for (const UnitSlices& unit : layout.slices) slice_elements_max = std::max(slice_elements_max, unit.slice_elements);
  const int64_t bytes = StagingBytes(slice_elements_max, communicator.size());
  ASSIGN_OR_RETURN(side->staging_memory_, communicator.MakeArena(bytes, threads, {"staging of collectives"}));
  if (side->staging_memory_ != nullptr) {
    ASSIGN_OR_RETURN(side->staging_lock_, device.PageLock(side->staging_memory_.get(), bytes, "staging memory"));
  } else {
    ASSIGN_OR_RETURN(side->staging_memory_, device.LockedMemory(bytes, "staging of collectives"));
  }
  side->staging_ = {side->staging_memory_.get(), static_cast<size_t>(bytes)};
  for (const Lane lane : {Lane::kCompute, Lane::kComm, Lane::kCopyIn, Lane::kCopyOut}) {
    ASSIGN_OR_RETURN(side->streams_[static_cast<int>(lane)], DeviceStream::Create(device));
  }
  return side;
}

absl::StatusOr<Lanes::Queues> DeviceSide::MakeQueues() const {
  Lanes::Queues queues;
  for (const Lane lane : {Lane::kCompute, Lane::kCopyIn, Lane::kCopyOut}) {
    ASSIGN_OR_RETURN(queues[static_cast<int>(lane)], MakeStreamLane(*stream(lane)));
  }
  for (auto& queue : queues) {
    if (queue == nullptr) queue = MakeThreadLane();
  }
  return queues;
}

}  // namespace angel_ptm
