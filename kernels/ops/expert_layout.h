#ifndef ANGEL_PTM_KERNELS_OPS_EXPERT_LAYOUT_H_
#define ANGEL_PTM_KERNELS_OPS_EXPERT_LAYOUT_H_

#include <cstdint>

namespace angel_ptm {

// Groups (token, choice) pairs by expert into blocks of block_rows rows; within an expert, pairs are ordered by (token,
// choice). Every expert starts at a block border, so the rows that a product works on never depend on how many tokens
// the other experts have. Only experts [first, first + E), first = *first_expert, are laid out; pairs of other experts
// have no row. A token's choices are different experts.
// row_of_pair[T,K]: the destination row, or -1 for a pair without one. pair_of_row[R]: t*K+k, or -1 for a padding row.
// block_expert[R/block_rows]: the expert of each block, counted from first; -1 after the last block in use.
// *active_blocks: the number of blocks in use.
// R/block_rows = ExpertBlocksMax (base/expert_blocks.h) for K choices, or for min(K, E) choices if there is a
// first_expert. Workspace: E int32.
struct ExpertLayoutArgs {
  int32_t* row_of_pair = nullptr;
  int32_t* pair_of_row = nullptr;
  int32_t* block_expert = nullptr;
  int32_t* active_blocks = nullptr;
  const int32_t* experts = nullptr;       // [T,K]
  const int32_t* first_expert = nullptr;  // [1], read when the kernel runs; null: 0
  int64_t t = 0, k = 0, e = 0, block_rows = 0, blocks_max = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_EXPERT_LAYOUT_H_
