#include "angel_ptm/train/evaluate.h"

#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace angel_ptm {

absl::StatusOr<Validation> Evaluate(Executor& executor, BatchFeeder& feeder, std::span<const int32_t> token_bytes,
                                    Communicator& communicator) {
  const Loader& loader = feeder.loader();
  const int64_t world = communicator.size();
  std::array<double, 3> mine = {};  // loss sum, targets, bytes
  for (int64_t step = 0; step < loader.step_count(); ++step) {
    for (int64_t micro = 0; micro < loader.MicroBatchesPerStep(world); ++micro) {
      feeder.Feed({.first_sample = step * loader.options().global_batch,
                   .micro = micro,
                   .rank = communicator.rank(),
                   .world = world});
      RETURN_IF_ERROR(executor.RunMicroStep(/*accumulate=*/false, step));
      mine[0] += feeder.LossSum();
      mine[1] += static_cast<double>(feeder.target_count());
      mine[2] += static_cast<double>(TargetBytes(feeder.targets(), token_bytes));
    }
  }
  std::vector<std::array<double, 3>> all(static_cast<size_t>(world));
  RETURN_IF_ERROR(communicator.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&mine, 1)),
                                         {"validation loss", -1}));
  double loss = 0, targets = 0, bytes = 0;
  for (const std::array<double, 3>& rank : all) {
    loss += rank[0];
    targets += rank[1];
    bytes += rank[2];
  }
  return Validation{.loss = loss / targets, .bits_per_byte = loss / std::numbers::ln2 / bytes};
}

}  // namespace angel_ptm
