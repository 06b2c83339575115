#include "comm/mesh_groups.h"

namespace angel_ptm {

absl::StatusOr<MeshGroups> MakeMeshGroups(Communicator& world, int expert_degree) {
  const WorldShape shape(world.size(), /*of_node=*/0, expert_degree);
  const int rank = world.rank();
  MeshGroups groups;
  ASSIGN_OR_RETURN(groups.replicas, world.Split(shape.expert_place(rank), {"ranks with the same experts"}));
  ASSIGN_OR_RETURN(groups.places, world.Split(rank % shape.expert_replicas(), {"ranks with all experts"}));
  return groups;
}

}  // namespace angel_ptm
