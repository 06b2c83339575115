// The loss of diffusion transformers.
#ifndef ANGEL_PTM_MODEL_DENOISING_LOSS_H_
#define ANGEL_PTM_MODEL_DENOISING_LOSS_H_

#include <cstdint>

#include "angel_ptm/model/graph_builder.h"
#include "kernels/ops/hybrid_loss.h"  // BoundColumn, for who fills the input

namespace angel_ptm {

// Ends a graph's forward pass with the squared errors of `prediction` [batch * rows, features], weighted by sample, and
// makes them its loss. Adds the inputs "target", of the prediction's shape, "sample_weight" [batch] and "weight" [1],
// all fp32. Returns the loss by sample.
TensorId AppendDenoisingLoss(GraphBuilder& builder, TensorId prediction, int64_t batch);

// The same of a model that learns its variance (kernels/ops/hybrid_loss.h): `prediction`, a matrix of `rows` rows
// whatever its shape, is predictions beside as many fractions. Further inputs: "clean" like the target, and "bound"
// [batch, kBoundColumns] fp32. Returns [2 batch]: squared errors, then terms of the bound, which add up to the loss.
TensorId AppendHybridLoss(GraphBuilder& builder, TensorId prediction, int64_t batch, int64_t rows);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_DENOISING_LOSS_H_
