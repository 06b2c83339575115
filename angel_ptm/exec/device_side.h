// A rank's GPU as its lanes use it. The lanes for computation and for copies to and from the device are streams. So is
// the communication lane where NCCL carries it; otherwise that lane is a thread that waits for its stream, because all
// other transports are the host's.
#ifndef ANGEL_PTM_EXEC_DEVICE_SIDE_H_
#define ANGEL_PTM_EXEC_DEVICE_SIDE_H_

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/device_collectives.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/memory/device.h"
#include "angel_ptm/plan/plan.h"
#include "comm/communicator.h"
#include "comm/mesh_groups.h"

namespace angel_ptm {

class DeviceSide {
 public:
  // Collective over `communicator`, of whose ranks `groups` are groups, if experts are split. Where collectives go
  // through host memory, that memory has room for those of plans of `layout`, and comes from the communicator's
  // MakeArena if the transport has a use for it. `device` must outlive the DeviceSide, and the DeviceSide the lanes and
  // executors made with it. Errors: why there is no NCCL where the wish insists on it, and NCCL's own.
  static absl::StatusOr<std::unique_ptr<DeviceSide>> Create(Device& device, const Layout& layout,
                                                            Communicator& communicator, int threads,
                                                            const CollectivesWish& wish = {},
                                                            const MeshGroups* groups = nullptr);

  Device& device() const { return device_; }
  // The stream of the compute, comm, copy-in or copy-out lane; null for lanes that do not use the device.
  DeviceStream* stream(Lane lane) const { return streams_[static_cast<int>(lane)].get(); }
  // Whether this rank is the only one of the group, which then has no collectives.
  bool alone(RankGroup of) const { return collectives_[static_cast<int>(of)] == nullptr; }
  DeviceCollectives& collectives(RankGroup of) const { return *collectives_[static_cast<int>(of)]; }
  // What went wrong in any group (DeviceCollectives::status).
  absl::Status status() const;
  // Collective, at the end of a run that went well.
  absl::Status Close();
  // How collectives travel, as told to the user; empty in a world of one.
  const std::string& collectives_text() const { return collectives_text_; }

  absl::StatusOr<Lanes::Queues> MakeQueues() const;

 private:
  explicit DeviceSide(Device& device) : device_(device) {}
  absl::Status Stage(const Layout& layout, Communicator& communicator, int threads, const MeshGroups* groups);
  // NCCL, if all ranks have it. Otherwise null with this rank's reason, or an error if the wish insists on NCCL.
  static absl::StatusOr<std::shared_ptr<NcclApi>> Agree(const CollectivesWish& wish, Communicator& communicator,
                                                        std::string* reason);

  Device& device_;
  std::shared_ptr<std::byte> staging_memory_;
  std::shared_ptr<void> staging_lock_;  // after the memory, so that it is destroyed first
  std::array<std::unique_ptr<DeviceStream>, kLaneCount> streams_;
  std::array<std::unique_ptr<DeviceCollectives>, kRankGroupCount> collectives_;  // null where the group is one rank
  std::string collectives_text_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_DEVICE_SIDE_H_
