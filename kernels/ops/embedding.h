#ifndef ANGEL_PTM_KERNELS_OPS_EMBEDDING_H_
#define ANGEL_PTM_KERNELS_OPS_EMBEDDING_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[T,H] = table[V,H][tokens[T]]. y and table are elements.
struct EmbeddingArgs {
  Operand y;
  ConstOperand table;
  const int32_t* tokens = nullptr;
  int64_t t = 0, h = 0, v = 0;
};

// dtable[V,H] (+)= dy[T,H] scattered by tokens and added in token order. dy is elements, dtable elements or fp32. A row
// of a bf16 dtable is rounded once, after all its tokens are added.
struct EmbeddingGradArgs {
  Operand dtable;
  ConstOperand dy;
  const int32_t* tokens = nullptr;
  int64_t t = 0, h = 0, v = 0;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_EMBEDDING_H_
