// A training run on a small prepared text, played step by step, for tests of what a step does to the process.
#ifndef ANGEL_PTM_TESTS_EXEC_TINY_TRAINER_H_
#define ANGEL_PTM_TESTS_EXEC_TINY_TRAINER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/evaluate.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/tasks/token_feeder.h"
#include "comm/communicator.h"

namespace angel_ptm {

// A two-layer MoE (4 experts, top 2) on the dataset in `data_directory`; more settings in text format.
TrainConfig TinyConfig(const std::string& data_directory, const std::string& more = "");

class TinyTrainer {
 public:
  // CHECK-fails if the run cannot be set up.
  TinyTrainer(const TrainConfig& config, Communicator& communicator, PublishActivity publish = {});

  // Sends every token to the same experts: gates of zero tie, and ties go to the lowest numbers.
  void RouteAllTokensToTheSameExperts() { FillParameter("mlp.gate", 0); }

  // Sets every element of the parameters whose names end in `name_end`, as far as this rank stores them.
  void FillParameter(absl::string_view name_end, float value);

  // Describes the first tensor that becomes non-finite on this rank in the next step's first micro-batch; "" if all are
  // finite.
  std::string FirstNonFinite();

  // Feeds and plays the micro-batches and the update of the next step.
  void Step();
  double loss() const { return loss_; }

  // Evaluates on a part of the held-out text; collective.
  LossSums Evaluate();

  // Steps of the Plan that move pages between tiers.
  int64_t moves() const;
  // The bytes of this rank's page file.
  int64_t file_bytes() const { return file_ == nullptr ? 0 : file_->bytes(); }
  // Tokens that chose each expert of the last layer in the last micro-batch.
  std::vector<int32_t> ExpertCounts() const;

 private:
  UpdateDecision Decide(const StepExchange& exchange);
  absl::Status Feed(int64_t micro) { return feeder_->Feed(Position(micro)).status(); }
  // The position of micro-batch `micro` in the next step.
  MicroBatchPosition Position(int64_t micro) const {
    return {step_ * config_.batch().global_batch_sequences(), micro, communicator_.rank(), communicator_.size()};
  }

  const TrainConfig config_;
  Communicator& communicator_;
  const std::unique_ptr<Communicator> control_;
  MeshGroups groups_;
  std::unique_ptr<PackedDataset> dataset_, validation_dataset_;
  std::unique_ptr<TokenSource> samples_, validation_samples_;
  std::unique_ptr<RunPlan> run_;
  std::unique_ptr<Tier> device_, host_;
  std::unique_ptr<FileTier> file_;
  Lanes lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_, validation_executor_;
  std::unique_ptr<TokenFeeder> feeder_, validation_feeder_;
  std::vector<int32_t> token_bytes_;  // by token id
  std::optional<Evaluator> evaluator_;
  const StepHooks hooks_;
  int64_t step_ = 0;
  double loss_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_EXEC_TINY_TRAINER_H_
