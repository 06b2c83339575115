// GatherRows: x[T,...] of every rank of the group -> y[N*T,...], in rank order. Of any type.
// SumRows: x[N*T,...], base[T,...]? -> y[T,...]. Takes this rank's rows from every rank's x, sums them in fp32 in rank
// order (or as NCCL does: numerics.sums), rounds once, then adds base.
// Each op is the gradient of the other. The ranks of a group belong to one replica (WorldShape). The rows of a rank
// must be whole cache lines, as reductions require of slices (comm/ordered_reduce_scatter.h).
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

DType TypeOfInput(const OpView& v) { return v.graph.tensors[v.op.inputs[0]].dtype; }

void WantCacheLines(const OpView& v, const Shape& of_rank) {
  v.Want(of_rank.elements() * SizeOf(TypeOfInput(v)) % 64 == 0, 0);
}

std::vector<OutputSpec> GatheredShape(const OpView& v) {
  WantCacheLines(v, v.In(0));
  return {{"y", v.In(0).WithRows(v.In(0)[0] * v.attrs().group_ranks), TypeOfInput(v)}};
}

std::vector<OutputSpec> SummedShape(const OpView& v) {
  const Shape y = v.In(0).WithRows(v.In(0)[0] / v.attrs().group_ranks);
  v.Want(v.In(0)[0] % v.attrs().group_ranks == 0, 0);
  v.Fits(1, y);
  WantCacheLines(v, y);
  return {{"y", y, TypeOfInput(v)}};
}

void GatherBackward(Tape& tape, const Op& op) {
  tape.Append(OpKind::kSumRows, {op.inputs[0]}, {tape.GradientOf(op.outputs[0]), kNone}, op.attrs);
}

void SumBackward(Tape& tape, const Op& op) {
  const TensorId dy = tape.GradientOf(op.outputs[0]);
  tape.Pass(dy, op.inputs[1]);
  tape.Append(OpKind::kGatherRows, {op.inputs[0]}, {dy}, op.attrs);
}

}  // namespace

OpRules GatherRowsRules() {
  return {.inputs = {{"x"}}, .outputs = {{"y"}}, .shapes = &GatheredShape, .backward = &GatherBackward};
}

OpRules SumRowsRules() {
  return {.inputs = {{"x"}, {.name = "base", .optional = true}},
          .outputs = {{"y"}},
          .shapes = &SummedShape,
          .backward = &SumBackward};
}

}  // namespace angel_ptm
