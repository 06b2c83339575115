// The loss of diffusion transformers.
#ifndef ANGEL_PTM_MODEL_DENOISING_LOSS_H_
#define ANGEL_PTM_MODEL_DENOISING_LOSS_H_

#include <cstdint>

#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {

// Ends a graph's forward pass with the squared errors of `prediction` [batch * rows, features], weighted by sample, and
// makes them its loss. Adds the inputs "target", of the prediction's shape, "sample_weight" [batch] and "weight" [1],
// all fp32. Returns the loss by sample.
TensorId AppendDenoisingLoss(GraphBuilder& builder, TensorId prediction, int64_t batch);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_DENOISING_LOSS_H_
