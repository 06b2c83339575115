#include "tests/reference/expert_layout.h"

namespace angel_ptm::reference {

int64_t ExpertLayout(int32_t* row_of_pair, int32_t* pair_of_row, int32_t* block_expert, const int32_t* experts,
                     int64_t pairs, int64_t first, int64_t e, int64_t block_rows, int64_t blocks_max) {
  for (int64_t pair = 0; pair < pairs; ++pair) row_of_pair[pair] = -1;
  for (int64_t row = 0; row < blocks_max * block_rows; ++row) pair_of_row[row] = -1;
  for (int64_t block = 0; block < blocks_max; ++block) block_expert[block] = -1;
  int64_t row = 0;
  for (int64_t expert = 0; expert < e; ++expert) {
    for (int64_t pair = 0; pair < pairs; ++pair) {
      if (experts[pair] != first + expert) continue;
      row_of_pair[pair] = static_cast<int32_t>(row);
      pair_of_row[row] = static_cast<int32_t>(pair);
      block_expert[row / block_rows] = static_cast<int32_t>(expert);
      ++row;
    }
    while (row % block_rows != 0) ++row;
  }
  return row / block_rows;
}

}  // namespace angel_ptm::reference
