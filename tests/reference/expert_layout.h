// Grouping of (token, choice) pairs by expert into blocks.
#ifndef ANGEL_PTM_TESTS_REFERENCE_EXPERT_LAYOUT_H_
#define ANGEL_PTM_TESTS_REFERENCE_EXPERT_LAYOUT_H_

#include <cstdint>

namespace angel_ptm::reference {

// Lays out experts [first, first + e). Arrays are as in the op: row_of_pair[T*K], pair_of_row[blocks_max*block_rows],
// block_expert[blocks_max]. Returns the number of blocks in use.
int64_t ExpertLayout(int32_t* row_of_pair, int32_t* pair_of_row, int32_t* block_expert, const int32_t* experts,
                     int64_t pairs, int64_t first, int64_t e, int64_t block_rows, int64_t blocks_max);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_EXPERT_LAYOUT_H_
