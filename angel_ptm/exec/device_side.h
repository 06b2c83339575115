// A rank's GPU as its lanes use it. Computation and the copies to and from the device are streams; communication has a
// stream, too, but is a thread that waits for it, since transports and the step's norm are the host's.
#ifndef ANGEL_PTM_EXEC_DEVICE_SIDE_H_
#define ANGEL_PTM_EXEC_DEVICE_SIDE_H_

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/memory/device.h"
#include "angel_ptm/plan/plan.h"
#include "comm/communicator.h"

namespace angel_ptm {

class DeviceSide {
 public:
  // Collective: the host memory through which collectives go, enough for plans of `layout`, comes from the communicator
  // if it has use for that. `device` must outlive the DeviceSide, and this the lanes and executors made with it.
  static absl::StatusOr<std::unique_ptr<DeviceSide>> Create(Device& device, const Layout& layout,
                                                            Communicator& communicator, int threads);

  Device& device() const { return device_; }
  // Of compute, comm, copy-in and copy-out; null for lanes that do not use the device.
  DeviceStream* stream(Lane lane) const { return streams_[static_cast<int>(lane)].get(); }
  // Page-locked, for one collective at a time.
  std::span<std::byte> staging() const { return staging_; }

  absl::StatusOr<Lanes::Queues> MakeQueues() const;

 private:
  explicit DeviceSide(Device& device) : device_(device) {}

  Device& device_;
  std::shared_ptr<std::byte> staging_memory_;
  std::shared_ptr<void> staging_lock_;  // behind the memory, so that it goes first
  std::span<std::byte> staging_;
  std::array<std::unique_ptr<DeviceStream>, kLaneCount> streams_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_DEVICE_SIDE_H_
