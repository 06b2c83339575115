#include "kernels/ops/expert_layout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"

namespace angel_ptm {
namespace {

// A counting sort of the pairs by expert, on one thread: it touches only a few integers per token.
void Run(const ExpertLayoutArgs& args, const KernelContext& ctx) {
  const int64_t pairs = args.t * args.k, first = args.first_expert == nullptr ? 0 : *args.first_expert;
  const auto has_row = [&](int64_t expert) { return expert >= 0 && expert < args.e; };
  int32_t* next_row_E = reinterpret_cast<int32_t*>(ctx.workspace);
  std::fill(next_row_E, next_row_E + args.e, 0);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int64_t expert = args.experts[pair] - first;
    if (has_row(expert)) ++next_row_E[expert];
  }

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
    const int64_t expert = args.experts[pair] - first;
    const int32_t row = has_row(expert) ? next_row_E[expert]++ : -1;
    args.row_of_pair[pair] = row;
    if (row >= 0) args.pair_of_row[row] = static_cast<int32_t>(pair);
  }
}

int64_t WorkspaceBytes(const ExpertLayoutArgs& args, const BackendOptions&) {
  return args.e * int64_t{sizeof(int32_t)};
}

absl::Status CanRun(const ExpertLayoutArgs& args) {
  RETURN_IF_ERROR(BelowInt32("expert_layout", {args.t, args.k, args.e, args.block_rows}));
  // Rows and pairs are numbered in 32 bits; this is an upper bound of both.
  const int64_t rows = args.t * args.k + args.e * (args.block_rows - 1);
  if (rows > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: expert_layout takes up to 2^31 - 1 padded rows, got ",
                                                   args.t, " * ", args.k, " + ", args.e, " * (", args.block_rows,
                                                   " - 1) = ", rows));
  }
  return absl::OkStatus();
}

}  // namespace

Kernel<ExpertLayoutArgs> CpuExpertLayout() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
