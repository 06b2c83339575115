// The groups, besides the world, to which a rank belongs in a world with split experts (base/world_shape.h). Neither
// has node levels: what goes through them is summed in rank order.
#ifndef ANGEL_PTM_COMM_MESH_GROUPS_H_
#define ANGEL_PTM_COMM_MESH_GROUPS_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/checked.h"
#include "comm/communicator.h"

namespace angel_ptm {

// The ranks that take part in a collective.
enum class RankGroup { kWorld, kReplicas, kPlaces };
inline constexpr int kRankGroupCount = 3;

struct MeshGroups {
  std::unique_ptr<CheckedCommunicator> replicas;  // the ranks at this rank's place: they have the same experts
  std::unique_ptr<CheckedCommunicator> places;    // this rank's replica, one rank per place: they exchange tokens

  // The communicator of a group other than the world.
  Communicator& Of(RankGroup group) const { return group == RankGroup::kReplicas ? *replicas : *places; }
  // Verifies law 4 in both groups, whose calls are not in the world's history. Collective over the world.
  absl::Status VerifySameHistory(const CallTag& tag) const;
};

// Collective over `world`, for start-up. expert_degree: a divisor of the world's size.
absl::StatusOr<MeshGroups> MakeMeshGroups(CheckedCommunicator& world, int expert_degree);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MESH_GROUPS_H_
