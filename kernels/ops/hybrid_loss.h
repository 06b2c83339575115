#ifndef ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_
#define ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// Columns of HybridLossArgs::bound.
enum BoundColumn : int { kBoundWeight, kBoundLogLeast, kBoundLogRange, kBoundError, kBoundDecoded, kBoundColumns };

// The loss of a diffusion model that learns the variance of its steps, L_hybrid of Nichol & Dhariwal 2021. A row of
// x[B R, 2C] is C predictions p, whose targets are target[B R, C], then C fractions v. The two parts of the loss are
// kept apart. For sample b, with means over its R C elements:
//   sample_loss[b] = weight[b] mean (p - target)^2,  sample_loss[B + b] = bound[b, kBoundWeight] mean L(v).
// L is one step's term of the variational bound, in nats. The predicted distribution is normal; its variance is exp(l),
// and its mean is off by e:
//   least = bound[b, kBoundLogLeast],  l = least + (v + 1) / 2 bound[b, kBoundLogRange],
//   e = bound[b, kBoundError] (p - target), a constant to the gradient.
// If bound[b, kBoundDecoded] is 0, L is the divergence KL(N(0, exp(least)) || N(e, exp(l))),
//   L = 1/2 (l - least - 1 + exp(least - l) + e^2 exp(-l)).
// Otherwise L = -log(max(P, 1e-12)), where P is the probability that N(clean + e, exp(l)) gives the bin of width 2/255
// around clean[B R, C]. For clean below -0.999 the bin is open below, for clean above 0.999 open above. The normal
// distribution function is the authors' approximation, (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2. dx[B R, 2C]
// (unless null) is the gradient of the SUM of all sample losses. x and dx are elements, all others fp32.
struct HybridLossArgs {
  Operand sample_loss, dx;
  ConstOperand x, target, clean, weight, bound;
  int64_t b = 0, r = 0, c = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_HYBRID_LOSS_H_
