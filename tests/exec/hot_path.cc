#include "tests/exec/hot_path.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/checked.h"
#include "comm/progress_board.h"
#include "tests/exec/allocation_counter.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/memory_directory.h"

namespace angel_ptm {

int64_t AllocationsOfFourSteps(const HotPathRun& run, Communicator& communicator) {
  TrainConfig config = TinyConfig(run.data, absl::StrCat("sharding { zero_stage: ", run.zero_stage,
                                                         " } memory { page_bytes: 8192 device_bytes: 700000 }"));
  if (run.expert_degree > 1) {
    config.mutable_sharding()->set_expert_degree(run.expert_degree);
    config.mutable_model()->mutable_hunyuan_lm()->set_intermediate_size(64);  // parts are whole slices
  }
  if (run.file) {
    config.mutable_memory()->set_host_bytes(500'000);
    config.mutable_memory()->mutable_nvme()->set_directory(testing_support::MemoryDirectory());
    config.mutable_memory()->mutable_nvme()->set_allow_buffered(true);
  }
  if (run.lock_free) {
    config.mutable_optimizer()->set_update(OptimizerConfig::LOCK_FREE);
    config.mutable_memory()->set_host_bytes(0);
  }
  config.mutable_numerics()->set_threads_per_rank(run.threads);
  CheckedCommunicator checked(&communicator, SequenceCheck::kHistory);
  const std::shared_ptr<ProgressBoard> board = ProgressBoard::InProcess(communicator.size());
  TinyTrainer trainer(config, checked, [&](int64_t step, std::string_view activity) {
    board->Publish(communicator.rank(), step, activity);
  });
  if (run.skewed) trainer.RouteAllTokensToTheSameExperts();
  for (int step = 0; step <= 2; ++step) trainer.Step();
  if (!checked.Barrier({"counting", 0}).ok()) return -1;
  const int64_t before = AllocationCalls();
  double validation_loss = 0;
  for (int step = 3; step <= 6; ++step) {
    trainer.Step();
    // A run's first evaluation may come at any step, and must not allocate either.
    const LossSums sums = trainer.Evaluate();
    validation_loss = sums.loss / sums.weight;
    if (run.after_step) run.after_step();
  }
  const int64_t calls = AllocationCalls() - before;
  // No rank tears down while another still counts.
  if (!checked.Barrier({"counted", 0}).ok()) return -1;
  EXPECT_TRUE(std::isfinite(trainer.loss()) && trainer.loss() > 0) << trainer.loss();
  EXPECT_TRUE(std::isfinite(validation_loss) && validation_loss > 0) << validation_loss;
  EXPECT_GT(trainer.moves(), 0);
  EXPECT_EQ(trainer.file_bytes() > 0, run.file);
  trainer.Step();  // the evaluation has overwritten the step's numbers
  const std::vector<int32_t> counts = trainer.ExpertCounts();
  const int32_t tokens = std::accumulate(counts.begin(), counts.end(), 0) / 2;  // each chooses two
  EXPECT_GT(tokens, 0);
  EXPECT_EQ(counts[0] == tokens && counts[1] == tokens, run.skewed);
  return calls;
}

}  // namespace angel_ptm
