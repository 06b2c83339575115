#include "angel_ptm/train/evaluate.h"

#include <span>

namespace angel_ptm {
Evaluator::Evaluator(const Plan& plan, Executor& executor, Feeder& feeder, Communicator& communicator)
    : plan_(plan),
      executor_(executor),
      feeder_(feeder),
      communicator_(communicator),
      hooks_({.feed = [this](int64_t, int64_t micro) { return Feed(micro); }}),
      sums_(static_cast<size_t>(communicator.size())) {}

absl::Status Evaluator::Feed(int64_t micro) {
  const SampleSource& source = feeder_.source();
  const int64_t per_step = source.MicroBatchesPerStep(communicator_.size());
  ASSIGN_OR_RETURN(const double own, feeder_.Feed({.first_sample = micro / per_step * source.samples_per_step(),
                                                   .micro = micro % per_step,
                                                   .rank = communicator_.rank(),
                                                   .world = communicator_.size()}));
  mine_.own += own;
  return absl::OkStatus();
}

absl::StatusOr<LossSums> Evaluator::Evaluate() {
  const SampleSource& source = feeder_.source();
  mine_ = {};
  RETURN_IF_ERROR(executor_.Run(*plan_.FindProgram(/*begun=*/false, /*begins_next=*/false), /*step=*/0,
                                source.step_count() * source.MicroBatchesPerStep(communicator_.size()), hooks_));
  mine_.loss = executor_.SumsOf(0).loss;
  mine_.weight = executor_.SumsOf(0).weight;
  RETURN_IF_ERROR(communicator_.AllGather(std::as_writable_bytes(std::span(sums_)), std::as_bytes(std::span(&mine_, 1)),
                                          {"validation loss", -1}));
  LossSums all;
  for (const LossSums& rank : sums_) all += rank;
  return all;
}

}  // namespace angel_ptm
