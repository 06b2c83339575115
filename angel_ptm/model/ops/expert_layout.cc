// ExpertLayout: experts[T,K], first_expert[1]? -> row_of_pair[T,K], pair_of_row[R], block_expert[R/block],
// active_blocks[1]. Integers: nothing to differentiate.
#include "kernels/ops/expert_layout.h"

#include <algorithm>

#include "angel_ptm/base/expert_blocks.h"
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  const Shape& experts = v.OfRank(0, 2);
  v.Fits(1, {1});
  const int64_t e = v.attrs().experts, block = v.attrs().block_rows;
  // A token chooses each expert at most once, which limits its choices within a part of the experts.
  const int64_t k = v.Has(1) ? std::min(experts[1], e) : experts[1];
  const int64_t blocks = ExpertBlocksMax(experts[0], k, e, block);
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
                                         .first_expert = b.InputInts(1),
                                         .t = b.In(0)[0],
                                         .k = b.attrs().topk,
                                         .e = b.attrs().experts,
                                         .block_rows = b.attrs().block_rows,
                                         .blocks_max = b.Out(2)[0]});
}

}  // namespace

OpRules ExpertLayoutRules() {
  return {.inputs = {{"experts"}, {.name = "first_expert", .optional = true}},
          .outputs = {{"row_of_pair"}, {"pair_of_row"}, {"block_expert"}, {"active_blocks"}},
          .shapes = &Shapes,
          .bind = &Bind};
}

}  // namespace angel_ptm
