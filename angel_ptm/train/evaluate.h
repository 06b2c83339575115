// Validation loss over a fixed set of held-out sequences.
#ifndef ANGEL_PTM_TRAIN_EVALUATE_H_
#define ANGEL_PTM_TRAIN_EVALUATE_H_

#include <cstdint>
#include <span>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/batch_feeder.h"
#include "comm/communicator.h"

namespace angel_ptm {

struct Validation {
  double loss = 0;           // nats per target token
  double bits_per_byte = 0;  // nats / ln 2 / bytes of the target tokens: comparable across vocabularies
};

// Collective. Plays the evaluation graph over all samples of the feeder's (evaluation) loader; all ranks return the
// same numbers. token_bytes: byte length by token id.
absl::StatusOr<Validation> Evaluate(Executor& executor, BatchFeeder& feeder, std::span<const int32_t> token_bytes,
                                    Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_EVALUATE_H_
