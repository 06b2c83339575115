// Runs the real trainer on a small prepared text, with ranks as threads: what the law tests of the whole trainer share.
#ifndef ANGEL_PTM_TESTS_LAWS_TRAINER_RUN_H_
#define ANGEL_PTM_TESTS_LAWS_TRAINER_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/train/device_choice.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Two layers, sequences of 32 tokens, six steps of four micro-batches of one sequence, two evaluations; data from
// PrepareTinyText(folder) (tests/support/tiny_text.h), output in <folder>/<run>. `overrides` as in --set.
TrainConfig TrainerConfig(bool moe, const std::string& folder, const std::string& run,
                          const std::vector<std::string>& overrides = {});

// What `launch` would determine about this machine if ranks are threads.
RunFacts TrainerFacts(int world_size);

struct TrainerRun {
  std::vector<TrainConfig> configs;  // by rank; one for all ranks if there is one
  int world_size = 1;
  bool resume = false;
  std::optional<int64_t> resume_from = {};
  // Requests a stop in this step's first micro-batch, as SIGTERM does: the run saves before the next micro-batch and
  // ends.
  int64_t stop_in_step = -1;
  std::function<void()> before_stop;          // called once, during that step
  PublishActivity watch = {};                 // called by any rank's threads at every sign of life
  std::vector<std::string> commits;           // what the ranks' programs were built from; empty: the same
  std::vector<int64_t> machine_memory_bytes;  // by rank, of its machine; empty: TrainerFacts' for all
  // GPUs that a rank may choose; empty: none.
  std::function<DeviceOffer(int rank)> gpus;
  // Wraps a rank's communicator in one of the test's own.
  std::function<std::unique_ptr<Communicator>(Communicator& inner)> wrap;
};

struct TrainerOutcome {
  std::vector<absl::Status> statuses;  // by rank
  int64_t last_step_begun = -1;        // by any rank
  std::string text;                    // what rank 0 printed
  // The first error that does not merely follow from another rank's, or OK.
  absl::Status status() const;
};
TrainerOutcome RunTrainer(const TrainerRun& run);

// The fields of <output>/metrics.jsonl that law 1 fixes, as printed; one string per step.
std::vector<std::string> MetricLines(const TrainConfig& config);
// The loss by step.
std::vector<double> Losses(const TrainConfig& config);

// Parameters and moments of the newest checkpoint, all units one after the other.
absl::StatusOr<std::vector<float>> NewestState(const TrainConfig& config);

// Device bytes of a rank without a budget.
int64_t UnconstrainedDeviceBytes(const TrainConfig& config, int world_size);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_TRAINER_RUN_H_
