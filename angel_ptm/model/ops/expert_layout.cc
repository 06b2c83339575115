// ExpertLayout: experts[T,K] -> row_of_pair[T,K], pair_of_row[R], block_expert[R/block], active_blocks[1]. Integers:
// nothing to differentiate.
#include "kernels/ops/expert_layout.h"

#include "angel_ptm/base/expert_blocks.h"
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& experts = v.OfRank(0, 2);
  const int64_t block = v.attrs().block_rows;
  const int64_t blocks = ExpertBlocksMax(experts[0], experts[1], v.attrs().experts, block);
  return {{"row_of_pair", experts, DType::kInt32},
          {"pair_of_row", {blocks * block}, DType::kInt32},
          {"block_expert", {blocks}, DType::kInt32},
          {"active_blocks", {1}, DType::kInt32}};
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(ExpertLayoutArgs{.row_of_pair = b.OutputInts(0),
                                         .pair_of_row = b.OutputInts(1),
                                         .block_expert = b.OutputInts(2),
                                         .active_blocks = b.OutputInts(3),
                                         .experts = b.InputInts(0),
                                         .t = b.In(0)[0],
                                         .k = b.attrs().topk,
                                         .e = b.attrs().experts,
                                         .block_rows = b.attrs().block_rows,
                                         .blocks_max = b.Out(2)[0]});
}

}  // namespace

OpRules ExpertLayoutRules() {
  return {.inputs = {{"experts"}},
          .outputs = {{"row_of_pair"}, {"pair_of_row"}, {"block_expert"}, {"active_blocks"}},
          .shapes = &Shapes,
          .bind = &Bind};
}

}  // namespace angel_ptm
