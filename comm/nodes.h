// A world whose ranks form nodes: rank r is in node r / n at place r % n, and all ranks of a node share one network to
// other nodes. What all of them need crosses that network once: an all-gather first goes across nodes, between ranks at
// the same place, and then each rank shares inside its node what it received. A reduction first adds inside the node
// (ordered_reduce_scatter.h, by levels()), so that only a node's sums go across: the two hops of ZeRO++'s gradients
// (Wang et al. 2023), in fp32 where ZeRO++ quantises.
#ifndef ANGEL_PTM_COMM_NODES_H_
#define ANGEL_PTM_COMM_NODES_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Collective over `world`, for start-up. The result does not own `world` and is its only user afterwards.
// ranks_per_node: a divisor of the world's size, neither 1 nor the size itself. Groups split from the result have no
// node levels.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNodes(Communicator& world, int ranks_per_node);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NODES_H_
