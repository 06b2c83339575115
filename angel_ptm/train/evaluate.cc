#include "angel_ptm/train/evaluate.h"

#include <numbers>

namespace angel_ptm {

Evaluator::Evaluator(Executor& executor, BatchFeeder& feeder, std::span<const int32_t> token_bytes,
                     Communicator& communicator)
    : executor_(executor),
      feeder_(feeder),
      token_bytes_(token_bytes),
      communicator_(communicator),
      sums_(static_cast<size_t>(communicator.size())) {}

absl::StatusOr<Validation> Evaluator::Evaluate() {
  const Loader& loader = feeder_.loader();
  const int64_t world = communicator_.size();
  Sums mine;
  for (int64_t step = 0; step < loader.step_count(); ++step) {
    for (int64_t micro = 0; micro < loader.MicroBatchesPerStep(world); ++micro) {
      RETURN_IF_ERROR(feeder_.Feed({.first_sample = step * loader.options().global_batch,
                                    .micro = micro,
                                    .rank = communicator_.rank(),
                                    .world = world}));
      RETURN_IF_ERROR(executor_.RunMicroStep(/*accumulate=*/false, step));
      mine.loss += feeder_.LossSum();
      mine.targets += static_cast<double>(feeder_.target_count());
      mine.bytes += static_cast<double>(TargetBytes(feeder_.targets(), token_bytes_));
    }
  }
  RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(sums_)), std::as_bytes(std::span(&mine, 1)),
                                          {"validation loss", -1}));
  Sums all;
  for (const Sums& rank : sums_) {
    all.loss += rank.loss;
    all.targets += rank.targets;
    all.bytes += rank.bytes;
  }
  return Validation{.loss = all.loss / all.targets, .bits_per_byte = all.loss / std::numbers::ln2 / all.bytes};
}

}  // namespace angel_ptm
