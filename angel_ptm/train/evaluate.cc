#include "angel_ptm/train/evaluate.h"

#include <span>

namespace angel_ptm {
namespace {

void Add(LossSums& sums, const LossSums& more) {
  sums.loss += more.loss;
  sums.weight += more.weight;
  sums.own += more.own;
}

}  // namespace

Evaluator::Evaluator(Executor& executor, Feeder& feeder, Communicator& communicator)
    : executor_(executor),
      feeder_(feeder),
      communicator_(communicator),
      sums_(static_cast<size_t>(communicator.size())) {}

absl::StatusOr<LossSums> Evaluator::Evaluate() {
  const SampleSource& source = feeder_.source();
  const int64_t world = communicator_.size();
  LossSums mine;
  for (int64_t step = 0; step < source.step_count(); ++step) {
    for (int64_t micro = 0; micro < source.MicroBatchesPerStep(world); ++micro) {
      RETURN_IF_ERROR(feeder_.Feed({.first_sample = step * source.samples_per_step(),
                                    .micro = micro,
                                    .rank = communicator_.rank(),
                                    .world = world}));
      RETURN_IF_ERROR(executor_.RunMicroStep(/*accumulate=*/false, step));
      Add(mine, feeder_.Losses());
    }
  }
  RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(sums_)), std::as_bytes(std::span(&mine, 1)),
                                          {"validation loss", -1}));
  LossSums all;
  for (const LossSums& rank : sums_) Add(all, rank);
  return all;
}

}  // namespace angel_ptm
