// The number of ranks, their grouping into nodes (consecutive ranks that communicate faster with each other than with
// other ranks), and the split of experts over ranks. Sums over ranks are taken within each node first, then across
// nodes, and experts process tokens of ranks that hold other experts. So the shape determines the bits of results
// (ARCHITECTURE.md).
#ifndef ANGEL_PTM_BASE_WORLD_SHAPE_H_
#define ANGEL_PTM_BASE_WORLD_SHAPE_H_

#include <cstdint>

namespace angel_ptm {

// The slice of a vector that a rank owns is a multiple of this many elements, so that a slice of the narrowest type is
// whole file blocks and no square-sum group straddles a cut.
inline constexpr int64_t kSliceAlignment = 2048;

struct WorldShape {
  // Implicit. A world of a single node, or of nodes with one rank each, for which sums are the same.
  constexpr WorldShape(int ranks) : WorldShape(ranks, ranks) {}
  // of_node: ranks per node, a divisor of ranks; 0 and 1 mean a single node. degree: expert_degree, a divisor of ranks.
  constexpr WorldShape(int ranks, int of_node, int degree = 1)
      : size(ranks), ranks_per_node(of_node <= 1 ? ranks : of_node), expert_degree(degree) {}

  constexpr bool has_nodes() const { return ranks_per_node < size; }
  constexpr int nodes() const { return size / ranks_per_node; }
  // With expert parallelism, rank r is replica r % n of place r / n, where n = expert_replicas(). Neighbouring ranks
  // hold the same experts; the expert_degree ranks of one replica together hold all experts and exchange tokens.
  constexpr int expert_replicas() const { return size / expert_degree; }
  constexpr int expert_place(int rank) const { return rank / expert_replicas(); }

  int size;
  int ranks_per_node;     // at least 2 if there are several nodes
  int expert_degree = 1;  // number of places over which the experts are split
};

// Whether a vector of consecutive experts needs no padding to be cut into slices. Then the slices of one place's ranks
// are whole experts.
constexpr bool PartsAreWhole(int64_t elements, WorldShape world) {
  return elements % (int64_t{world.size} * kSliceAlignment) == 0;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_WORLD_SHAPE_H_
