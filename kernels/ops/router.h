#ifndef ANGEL_PTM_KERNELS_OPS_ROUTER_H_
#define ANGEL_PTM_KERNELS_OPS_ROUTER_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// logits = x gate^T in fp32, probs = softmax over all experts. Takes the k experts of highest probability (ties: the
// lower index first), with weights renormalised to sum 1. x and gate are elements.
struct RouterArgs {
  Operand weights, probs;      // [T,K], [T,E] fp32
  int32_t* experts = nullptr;  // [T,K], in order of decreasing probability
  int32_t* counts = nullptr;   // [E] (token, choice) pairs per expert
  int32_t* loads = nullptr;    // [E] += counts; may be null
  ConstOperand x, gate;        // [T,H], [E,H]
  int64_t t = 0, h = 0, e = 0, k = 0;
};

// Gradient of  sum_loss + aux_coefficient * target_count * aux,  aux = E * sum_e (counts_e / (T K)) * mean_t probs_te
// (Fedus et al. 2021, eq. 4, over the top k), with respect to x and gate. dx[T,H] (+)=, dgate[E,H] (+)=, either of
// which may be null. x, gate, dx and dgate are elements. Workspace: T * E fp32, more with bf16.
struct RouterGradArgs {
  Operand dx, dgate;
  ConstOperand dweights, weights, probs, x, gate;
  const int32_t* experts = nullptr;
  const int32_t* counts = nullptr;
  const float* target_count = nullptr;  // scalar: target tokens of this micro-batch
  float aux_coefficient = 0;
  int64_t t = 0, h = 0, e = 0, k = 0;
  bool accumulate_dx = false, accumulate_dgate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_ROUTER_H_
