// The worlds that the parity tests run in. Each test program links one implementation: ranks as threads
// (local_law_worlds.cc) or this process as one rank of mpirun (mpi_law_worlds.cc).
#ifndef ANGEL_PTM_TESTS_LAWS_LAW_WORLDS_H_
#define ANGEL_PTM_TESTS_LAWS_LAW_WORLDS_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/laws/parity.h"

namespace angel_ptm {

struct LawWorld {
  std::string transport;
  int size = 1;
  int ranks_per_node = 0;  // as in WorldShape
  int expert_degree = 1;   // as in WorldShape

  WorldShape shape() const { return {size, ranks_per_node, expert_degree}; }
};
inline std::ostream& operator<<(std::ostream& os, const LawWorld& world) {
  os << world.transport << "_" << world.size;
  if (world.ranks_per_node > 0) os << "_in_nodes_of_" << world.ranks_per_node;
  return world.expert_degree == 1 ? os : os << "_with_experts_split_over_" << world.expert_degree;
}

std::vector<LawWorld> LawWorlds();

// Calls `check` with a matrix whose cases train in the world, with the fault planted if there is one. With MPI, only
// rank 0 compares, and the ranks leave together.
void RunInWorld(const LawWorld& world, const std::function<void(ParityMatrix&)>& check, const PlantFault& plant = {});

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_LAW_WORLDS_H_
