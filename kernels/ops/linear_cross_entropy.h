#ifndef ANGEL_PTM_KERNELS_OPS_LINEAR_CROSS_ENTROPY_H_
#define ANGEL_PTM_KERNELS_OPS_LINEAR_CROSS_ENTROPY_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// A linear layer and cross-entropy in one op, computed in chunks of chunk_tokens tokens so that the [T,V] logits never
// exist. token_loss[T] = logsumexp(x weight^T) - logit[target], 0 where the target is negative. dx[T,H] and
// dweight[V,H] (+)=, where given, get the gradient of the SUM of token losses. Workspace: chunk_tokens * V fp32, more
// with bf16.
//
// With bf16 x and weight, logits and softmax are fp32 and the gradients of logits are rounded to bf16. dx and dweight
// are elements or fp32. dx is rounded once; a bf16 dweight is rounded after every chunk.
struct LinearCrossEntropyArgs {
  Operand token_loss, dx, dweight;  // each gradient may be null
  ConstOperand x, weight;           // [T,H], [V,H]
  const int32_t* targets = nullptr;
  int64_t t = 0, h = 0, v = 0, chunk_tokens = 0;
  bool accumulate_dweight = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_LINEAR_CROSS_ENTROPY_H_
