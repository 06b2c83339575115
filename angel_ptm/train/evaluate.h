// Validation loss over a fixed set of held-out sequences.
#ifndef ANGEL_PTM_TRAIN_EVALUATE_H_
#define ANGEL_PTM_TRAIN_EVALUATE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/batch_feeder.h"
#include "comm/communicator.h"

namespace angel_ptm {

struct Validation {
  double loss = 0;           // nats per target token
  double bits_per_byte = 0;  // nats / ln 2 / bytes of the target tokens: comparable across vocabularies
};

class Evaluator {
 public:
  // `executor` is bound to an evaluation graph, `feeder` feeds it. token_bytes: byte length by token id. Nothing is
  // owned, all must outlive the Evaluator.
  Evaluator(Executor& executor, BatchFeeder& feeder, std::span<const int32_t> token_bytes, Communicator& communicator);

  // Collective. Plays the evaluation graph over all samples of the feeder's loader; all ranks return the same numbers.
  // Allocates nothing: it runs between training steps.
  absl::StatusOr<Validation> Evaluate();

 private:
  struct Sums {
    double loss = 0, targets = 0, bytes = 0;
  };

  Executor& executor_;
  BatchFeeder& feeder_;
  const std::span<const int32_t> token_bytes_;
  Communicator& communicator_;
  std::vector<Sums> sums_;  // by rank
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_EVALUATE_H_
