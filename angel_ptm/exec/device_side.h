// A rank's GPU as its lanes use it. Computation and the copies to and from the device are streams. So is communication
// where NCCL carries it; else it is a thread that waits for its stream, since all other transports are the host's.
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
  // Collective over `communicator`, of which `groups` are, if experts are split. Where collectives go through host
  // memory it has room for those of plans of `layout`, and comes from the communicator if that has use for it. `device`
  // must outlive the DeviceSide, and this the lanes and executors made with it. Errors: why there is no NCCL where it
  // is wished for, and NCCL's own.
  static absl::StatusOr<std::unique_ptr<DeviceSide>> Create(Device& device, const Layout& layout,
                                                            Communicator& communicator, int threads,
                                                            const CollectivesWish& wish = {},
                                                            const MeshGroups* groups = nullptr);

  Device& device() const { return device_; }
  // Of compute, comm, copy-in and copy-out; null for lanes that do not use the device.
  DeviceStream* stream(Lane lane) const { return streams_[static_cast<int>(lane)].get(); }
  // Whether this rank is the only one of the group, whose collectives then are none.
  bool alone(RankGroup of) const { return collectives_[static_cast<int>(of)] == nullptr; }
  DeviceCollectives& collectives(RankGroup of) const { return *collectives_[static_cast<int>(of)]; }
  // What went wrong in any group (DeviceCollectives::status).
  absl::Status status() const;
  // Collective, at the end of a run that went well.
  absl::Status Close();
  // How they travel, as people are told; empty in a world of one.
  const std::string& collectives_text() const { return collectives_text_; }

  absl::StatusOr<Lanes::Queues> MakeQueues() const;

 private:
  explicit DeviceSide(Device& device) : device_(device) {}
  absl::Status Stage(const Layout& layout, Communicator& communicator, int threads, const MeshGroups* groups);
  // NCCL as all ranks have it; null where one has not and it is not insisted on, with this rank's reason.
  static absl::StatusOr<std::shared_ptr<NcclApi>> Agree(const CollectivesWish& wish, Communicator& communicator,
                                                        std::string* reason);

  Device& device_;
  std::shared_ptr<std::byte> staging_memory_;
  std::shared_ptr<void> staging_lock_;  // behind the memory, so that it goes first
  std::array<std::unique_ptr<DeviceStream>, kLaneCount> streams_;
  std::array<std::unique_ptr<DeviceCollectives>, kRankGroupCount> collectives_;  // null where it is one rank's
  std::string collectives_text_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_DEVICE_SIDE_H_
