#include "angel_ptm/model/denoising_loss.h"

namespace angel_ptm {

TensorId AppendDenoisingLoss(GraphBuilder& builder, TensorId prediction, int64_t batch) {
  Graph& graph = builder.graph();
  const TensorId target = builder.AddInput("target", graph.tensors[prediction].shape, DType::kFloat32);
  const TensorId weight = builder.AddInput("sample_weight", {batch}, DType::kFloat32);
  graph.loss_weight = builder.AddInput("weight", {1}, DType::kFloat32);
  const TensorId loss = builder.Append(OpKind::kWeightedMse, "loss", {prediction, target, weight})[0];
  graph.loss = static_cast<OpId>(graph.ops.size()) - 1;
  return loss;
}

}  // namespace angel_ptm
