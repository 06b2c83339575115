#ifndef ANGEL_PTM_KERNELS_OPS_ADAMW_H_
#define ANGEL_PTM_KERNELS_OPS_ADAMW_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Per-step numbers of AdamW, filled by the trainer before the update segment runs.
struct AdamWScalars {
  float learning_rate = 0;
  float gradient_scale = 1;    // clip factor / number of target tokens
  float bias_correction1 = 1;  // 1 - beta1^t
  float bias_correction2 = 1;  // 1 - beta2^t
};

// The numbers that do not change from step to step.
struct AdamWConstants {
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
};

// Elements [begin, end) of a unit's flat vector.
struct ElementSpan {
  int64_t begin = 0, end = 0;
};

// AdamW with decoupled decay (Loshchilov & Hutter 2019), as one sequence of IEEE operations on every ISA:
//   g = grad * gradient_scale;  m += (1-beta1)*(g-m);  v += (1-beta2)*(g*g-v);
//   p -= lr * ( (m/bc1) / (sqrt(v/bc2) + epsilon) + weight_decay * p ).
// p is param if param is fp32. If param is bf16, p is its fp32 master, and param becomes p rounded to nearest even,
// whatever its previous value.
struct AdamWArgs {
  Operand param;      // [n] fp32 without a master, bf16 with one
  Operand master;     // [n] fp32, or null
  Operand m, v;       // [n] fp32
  ConstOperand grad;  // [n] fp32; with a bf16 param also bf16, then it may be the same memory as param
  int64_t n = 0;
  int64_t unit_offset = 0;                // index of param[0] in the unit's flat vector
  const ElementSpan* no_decay = nullptr;  // spans without weight decay: sorted, disjoint
  int64_t no_decay_count = 0;
  const AdamWScalars* scalars = nullptr;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ADAMW_H_
