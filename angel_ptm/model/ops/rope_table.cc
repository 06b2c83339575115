// RopeTable: positions[T] -> cos_sin[T,D/2,2]. Nothing to differentiate.
#include "kernels/ops/rope_table.h"

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

std::vector<OutputSpec> Shapes(const OpView& v) {
  return {{"cos_sin", {v.OfRank(0, 1)[0], v.attrs().head_dim / 2, 2}}};
}

std::unique_ptr<const KernelCall> Bind(const Binding& b) {
  return MakeKernelCall(RopeTableArgs{.cos_sin = b.Output(0),
                                      .positions = b.InputInts(0),
                                      .t = b.In(0)[0],
                                      .d = b.attrs().head_dim,
                                      .theta = b.attrs().rope_theta,
                                      .alpha = b.attrs().rope_alpha});
}

}  // namespace

OpRules RopeTableRules() {
  return {.inputs = {{"positions"}}, .outputs = {{"cos_sin"}}, .shapes = &Shapes, .bind = &Bind};
}

}  // namespace angel_ptm
