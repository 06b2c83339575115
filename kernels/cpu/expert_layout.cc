#include <algorithm>

#include "kernels/cpu/cpu_ops.h"

namespace angel_ptm {

// A counting sort of the pairs by expert; on one thread, it touches a few integers per token.
void CpuExpertLayout(const ExpertLayoutArgs& args, const KernelContext& ctx) {
  const int64_t pairs = args.t * args.k;
  int32_t* next_row_E = reinterpret_cast<int32_t*>(ctx.workspace);
  std::fill(next_row_E, next_row_E + args.e, 0);
  for (int64_t pair = 0; pair < pairs; ++pair) ++next_row_E[args.experts[pair]];

  int64_t block = 0;
  for (int64_t expert = 0; expert < args.e; ++expert) {
    const int64_t blocks = (next_row_E[expert] + args.block_rows - 1) / args.block_rows;
    next_row_E[expert] = static_cast<int32_t>(block * args.block_rows);
    std::fill(args.block_expert + block, args.block_expert + block + blocks, static_cast<int32_t>(expert));
    block += blocks;
  }
  std::fill(args.block_expert + block, args.block_expert + args.blocks_max, -1);
  *args.active_blocks = static_cast<int32_t>(block);

  std::fill(args.pair_of_row, args.pair_of_row + args.blocks_max * args.block_rows, -1);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int32_t row = next_row_E[args.experts[pair]]++;
    args.row_of_pair[pair] = row;
    args.pair_of_row[row] = static_cast<int32_t>(pair);
  }
}

}  // namespace angel_ptm
