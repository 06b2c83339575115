// How many ranks there are; whether they are nodes: neighbours that talk to each other faster than to others; and
// whether they have different experts. Sums over ranks are of a node's ranks first, then of the nodes, and experts see
// the tokens of those who have others, so the shape decides bits (ARCHITECTURE.md).
#ifndef ANGEL_PTM_BASE_WORLD_SHAPE_H_
#define ANGEL_PTM_BASE_WORLD_SHAPE_H_

#include <cstdint>

namespace angel_ptm {

// Slices of vectors, a rank's each, are multiples of this many elements: a slice of the narrowest type is whole blocks
// of a file, and square-sum groups never straddle a cut.
inline constexpr int64_t kSliceAlignment = 2048;

struct WorldShape {
  // Implicit: a world of one node, or of nodes of one rank, which sums alike.
  constexpr WorldShape(int ranks) : WorldShape(ranks, ranks) {}
  // ranks_per_node: a divisor of ranks; 0 and 1 are as one node.
  // degree: a divisor of ranks.
  constexpr WorldShape(int ranks, int of_node, int degree = 1)
      : size(ranks), ranks_per_node(of_node <= 1 ? ranks : of_node), expert_degree(degree) {}

  constexpr bool has_nodes() const { return ranks_per_node < size; }
  constexpr int nodes() const { return size / ranks_per_node; }
  // With expert parallelism rank r is replica r % n of place r / n, n = expert_replicas(): neighbours have the same
  // experts, the expert_degree ranks of one replica have all of them and exchange their tokens.
  constexpr int expert_replicas() const { return size / expert_degree; }
  constexpr int expert_place(int rank) const { return rank / expert_replicas(); }

  int size;
  int ranks_per_node;     // of several nodes at least 2
  int expert_degree = 1;  // over so many places the experts are split
};

// Whether a vector of experts, one after another, is whole slices: then those of one place's ranks are whole experts.
constexpr bool PartsAreWhole(int64_t elements, WorldShape world) {
  return elements % (int64_t{world.size} * kSliceAlignment) == 0;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_WORLD_SHAPE_H_
