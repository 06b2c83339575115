// How many blocks of expert rows hold what a router may choose: the graph's shapes and the kernels' arguments agree on
// it.
#ifndef ANGEL_PTM_BASE_EXPERT_BLOCKS_H_
#define ANGEL_PTM_BASE_EXPERT_BLOCKS_H_

#include <cstdint>

namespace angel_ptm {

// Blocks of block_rows rows, each of one expert, that hold tokens * k rows whatever the routing: every expert may leave
// its last block with all rows but one unused. Of a part of the experts, k is how many of them a token can choose.
constexpr int64_t ExpertBlocksMax(int64_t tokens, int64_t k, int64_t experts, int64_t block_rows) {
  return (tokens * k + experts * (block_rows - 1)) / block_rows;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_EXPERT_BLOCKS_H_
