// The loss over a fixed set of held-out samples.
#ifndef ANGEL_PTM_TRAIN_EVALUATE_H_
#define ANGEL_PTM_TRAIN_EVALUATE_H_

#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/task.h"
#include "comm/communicator.h"

namespace angel_ptm {

class Evaluator {
 public:
  // `executor` is bound to an evaluation graph and plays `plan`; `feeder` feeds it. The Evaluator owns none of its
  // arguments; all must outlive it.
  Evaluator(const Plan& plan, Executor& executor, Feeder& feeder, Communicator& communicator);

  // Collective. Plays the evaluation graph over all samples of the feeder's source; all ranks return the same sums.
  // Allocates nothing: it runs between training steps.
  absl::StatusOr<LossSums> Evaluate();

 private:
  absl::Status Feed(int64_t micro);

  const Plan& plan_;
  Executor& executor_;
  Feeder& feeder_;
  Communicator& communicator_;
  const StepHooks hooks_;
  LossSums mine_;
  std::vector<LossSums> sums_;  // by rank
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_EVALUATE_H_
