#include "angel_ptm/model/denoising_loss.h"

#include <utility>

namespace angel_ptm {
namespace {

// Appends the op that ends the forward pass.
TensorId Loss(GraphBuilder& builder, OpKind kind, std::vector<TensorId> inputs, OpAttrs attrs) {
  Graph& graph = builder.graph();
  graph.loss_weight = builder.AddInput("weight", {1}, DType::kFloat32);
  const TensorId loss = builder.Append(kind, "loss", std::move(inputs), attrs)[0];
  graph.loss = static_cast<OpId>(graph.ops.size()) - 1;
  return loss;
}

}  // namespace

TensorId AppendDenoisingLoss(GraphBuilder& builder, TensorId prediction, int64_t batch) {
  const TensorId target = builder.AddInput("target", builder.graph().tensors[prediction].shape, DType::kFloat32);
  const TensorId weight = builder.AddInput("sample_weight", {batch}, DType::kFloat32);
  return Loss(builder, OpKind::kWeightedMse, {prediction, target, weight}, {});
}

TensorId AppendHybridLoss(GraphBuilder& builder, TensorId prediction, int64_t batch, int64_t rows) {
  const Shape& all = builder.graph().tensors[prediction].shape;
  const Shape half = {all[0], all[1] / 2};
  const TensorId target = builder.AddInput("target", half, DType::kFloat32);
  const TensorId clean = builder.AddInput("clean", half, DType::kFloat32);
  const TensorId weight = builder.AddInput("sample_weight", {batch}, DType::kFloat32);
  const TensorId bound = builder.AddInput("bound", {batch, kBoundColumns}, DType::kFloat32);
  return Loss(builder, OpKind::kHybridLoss, {prediction, target, clean, weight, bound}, {.rows = rows});
}

}  // namespace angel_ptm
