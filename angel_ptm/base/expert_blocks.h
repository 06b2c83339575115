// The number of blocks of expert rows that suffices for every possible routing. The graph's shapes and the kernels'
// arguments both use it.
#ifndef ANGEL_PTM_BASE_EXPERT_BLOCKS_H_
#define ANGEL_PTM_BASE_EXPERT_BLOCKS_H_

#include <cstdint>

namespace angel_ptm {

// The number of blocks, of block_rows rows of a single expert each, that hold tokens * k rows for any routing: in the
// worst case every expert uses one row of its last block. For a subset of the experts, k is the number of them that a
// token can choose.
constexpr int64_t ExpertBlocksMax(int64_t tokens, int64_t k, int64_t experts, int64_t block_rows) {
  return (tokens * k + experts * (block_rows - 1)) / block_rows;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_EXPERT_BLOCKS_H_
