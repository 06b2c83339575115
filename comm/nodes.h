// A world whose ranks are nodes: rank r is in node r / n at place r % n, and between nodes there is one network for all
// ranks of a node. What they all need crosses it once: an all-gather goes across nodes first, between ranks at the same
// place, then each shares inside its node what it got. A reduction adds inside the node first
// (ordered_reduce_scatter.h, by levels()), so that across go sums of a node: the two hops of ZeRO++'s gradients (Wang
// et al. 2023), in fp32 where that quantises.
#ifndef ANGEL_PTM_COMM_NODES_H_
#define ANGEL_PTM_COMM_NODES_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Collective over `world`, for start-up; does not own it, and is its only user afterwards. ranks_per_node: a divisor of
// the world's size, neither 1 nor all of it. What is split from it is of ranks without nodes.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNodes(Communicator& world, int ranks_per_node);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NODES_H_
