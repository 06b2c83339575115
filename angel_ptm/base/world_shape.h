// How many ranks there are, and whether they are nodes: neighbours that talk to each other faster than to others. Sums
// over ranks are of a node's ranks first, then of the nodes, so the shape decides bits (ARCHITECTURE.md).
#ifndef ANGEL_PTM_BASE_WORLD_SHAPE_H_
#define ANGEL_PTM_BASE_WORLD_SHAPE_H_

namespace angel_ptm {

struct WorldShape {
  // Implicit: a world of one node, or of nodes of one rank, which sums alike.
  constexpr WorldShape(int ranks) : WorldShape(ranks, ranks) {}
  // ranks_per_node: a divisor of ranks; 0 and 1 are as one node.
  constexpr WorldShape(int ranks, int of_node) : size(ranks), ranks_per_node(of_node <= 1 ? ranks : of_node) {}

  constexpr bool has_nodes() const { return ranks_per_node < size; }
  constexpr int nodes() const { return size / ranks_per_node; }

  int size;
  int ranks_per_node;  // of several nodes at least 2
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_WORLD_SHAPE_H_
