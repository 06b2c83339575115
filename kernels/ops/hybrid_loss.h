#ifndef ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_
#define ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Columns of HybridLossArgs::bound.
enum BoundColumn : int { kBoundWeight, kBoundLogLeast, kBoundLogRange, kBoundError, kBoundDecoded, kBoundColumns };

// The loss of a diffusion model that learns the variance of its steps, L_hybrid of Nichol & Dhariwal 2021. A row of
// x[B R, 2C] is C predictions p, whose targets are target[B R, C], then C fractions v. Its two parts are apart: for b,
//   sample_loss[b] = weight[b] mean (p - target)^2,  sample_loss[B + b] = bound[b, kBoundWeight] mean L(v).
// L is a step's term of the variational bound in nats, of a normal number of variance exp(l) whose mean is off by e:
//   least = bound[b, kBoundLogLeast],  l = least + (v + 1) / 2 bound[b, kBoundLogRange],
//   e = bound[b, kBoundError] (p - target), a constant to the gradient.
// Where bound[b, kBoundDecoded] is 0, L is its divergence from one of variance exp(least) and no error,
//   L = 1/2 (l - least - 1 + exp(least - l) + e^2 exp(-l)).
// Elsewhere L = -log(max(P, 1e-12)), P what N(clean + e, exp(l)) gives the bin of clean[B R, C] among the 255 of width
// 2/255 from -1 to 1, the outer two of which, beyond -0.999 and 0.999, are open; the normal distribution is the
// authors', (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2.
// dx[B R, 2C] (unless null) is the gradient of the SUM of all of them. x and dx are elements, all others fp32; N = R C.
struct HybridLossArgs {
  Operand sample_loss, dx;
  ConstOperand x, target, clean, weight, bound;
  int64_t b = 0, r = 0, c = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_
