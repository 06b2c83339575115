// What the ops of an update read of their step.
#ifndef ANGEL_PTM_KERNELS_UPDATE_DECISION_H_
#define ANGEL_PTM_KERNELS_UPDATE_DECISION_H_

#include "kernels/ops/adamw.h"
#include "kernels/ops/ema.h"

namespace angel_ptm {

// Made once a step from the gradient's norm, the same on all ranks. Bound kernels read it through a pointer.
struct UpdateDecision {
  bool apply = true;  // false: this step changes nothing
  AdamWScalars scalars;
  EmaScalars ema;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_UPDATE_DECISION_H_
