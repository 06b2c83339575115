// Everything that changes from step to step, in one block that bound kernels read and write through pointers. So one
// bound Plan serves all steps, and the host need not look at results between a step's micro-batches.
#ifndef ANGEL_PTM_KERNELS_STEP_BLOCK_H_
#define ANGEL_PTM_KERNELS_STEP_BLOCK_H_

#include <array>
#include <cstdint>

#include "angel_ptm/base/fixed_point.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/ema.h"

namespace angel_ptm {

// Sums over a rank's micro-batches.
struct StepSums {
  FixedPointSum squares;  // of the rank's slice of the reduced gradient; complete after the last micro-batch
  double loss = 0;        // over samples or tokens; each micro-batch is summed on its own first
  double loss_first = 0;  // the first part of the loss alone (model/op_rules.h, loss_parts)
  double weight = 0;      // what the loss is divided by: the tokens that count

  void Add(const StepSums& more) {
    squares.Add(more.squares);
    loss += more.loss;
    loss_first += more.loss_first;
    weight += more.weight;
  }
};

// Made once per step from the sums of all ranks, identical on every rank.
struct UpdateDecision {
  bool apply = true;  // false: this step changes nothing
  AdamWScalars scalars;
  EmaScalars ema;
};

struct StepBlock {
  // Two, because a step's first micro-batch may run concurrently with the update of the previous step.
  std::array<StepSums, 2> sums;
  UpdateDecision decision;

  StepSums& SumsOf(int64_t step) { return sums[step & 1]; }
  const StepSums& SumsOf(int64_t step) const { return sums[step & 1]; }
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_STEP_BLOCK_H_
