// The groups that a rank of a world with split experts is in besides the world (base/world_shape.h). Both are of ranks
// without nodes: what goes through them is summed in rank order.
#ifndef ANGEL_PTM_COMM_MESH_GROUPS_H_
#define ANGEL_PTM_COMM_MESH_GROUPS_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/checked.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Whom a collective is of.
enum class RankGroup { kWorld, kReplicas, kPlaces };
inline constexpr int kRankGroupCount = 3;

struct MeshGroups {
  std::unique_ptr<CheckedCommunicator> replicas;  // of this rank's place: they have the same experts
  std::unique_ptr<CheckedCommunicator> places;    // of this rank's replica, one of every place: they exchange tokens

  // Of a group other than the world.
  Communicator& Of(RankGroup group) const { return group == RankGroup::kReplicas ? *replicas : *places; }
  // Law 4 in both: the world's history has none of their calls. Collective over the world.
  absl::Status VerifySameHistory(const CallTag& tag) const;
};

// Collective over `world`, for start-up. expert_degree: a divisor of its size.
absl::StatusOr<MeshGroups> MakeMeshGroups(CheckedCommunicator& world, int expert_degree);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MESH_GROUPS_H_
