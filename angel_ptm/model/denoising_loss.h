// The loss of diffusion transformers.
#ifndef ANGEL_PTM_MODEL_DENOISING_LOSS_H_
#define ANGEL_PTM_MODEL_DENOISING_LOSS_H_

#include <cstdint>

#include "angel_ptm/model/graph_builder.h"
#include "kernels/ops/hybrid_loss.h"  // BoundColumn, for callers that fill the input "bound"

namespace angel_ptm {

// Ends a graph's forward pass with its loss, the mean squared error of `prediction` [batch * rows, features] per
// sample, weighted by sample. Adds the inputs "target", of the prediction's shape, "sample_weight" [batch] and "weight"
// [1], all fp32. Returns the losses [batch].
TensorId AppendDenoisingLoss(GraphBuilder& builder, TensorId prediction, int64_t batch);

// The same for a model that learns its variance (kernels/ops/hybrid_loss.h). `prediction`, viewed as a matrix of `rows`
// rows, consists of predictions followed by as many fractions in each row. "target" has half the prediction's columns.
// Further inputs: "clean", like the target, and "bound" [batch, kBoundColumns] fp32. Returns [2 batch]: squared errors,
// then terms of the bound; their sum is the loss.
TensorId AppendHybridLoss(GraphBuilder& builder, TensorId prediction, int64_t batch, int64_t rows);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_DENOISING_LOSS_H_
