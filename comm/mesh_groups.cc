#include "comm/mesh_groups.h"

namespace angel_ptm {

absl::Status MeshGroups::VerifySameHistory(const CallTag& tag) const {
  RETURN_IF_ERROR(replicas->VerifySameHistory(tag));
  return places->VerifySameHistory(tag);
}

absl::StatusOr<MeshGroups> MakeMeshGroups(CheckedCommunicator& world, int expert_degree) {
  const WorldShape shape(world.size(), /*of_node=*/0, expert_degree);
  const int rank = world.rank();
  MeshGroups groups;
  ASSIGN_OR_RETURN(groups.replicas, world.SplitChecked(shape.expert_place(rank), {"ranks with the same experts"}));
  ASSIGN_OR_RETURN(groups.places, world.SplitChecked(rank % shape.expert_replicas(), {"ranks with all experts"}));
  return groups;
}

}  // namespace angel_ptm
