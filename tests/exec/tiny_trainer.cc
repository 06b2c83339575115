#include "tests/exec/tiny_trainer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/exec/lock_free_updater.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/run.h"
#include "tests/plan/plan_testing.h"
#include "tests/support/or_die.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
TrainConfig TinyConfig(const std::string& data_directory, const std::string& more) {
  const std::string text = absl::StrCat(
      "model { hunyuan_lm { hidden_size: 32 intermediate_size: 48 num_hidden_layers: 2 num_attention_heads: 4 "
      "num_key_value_heads: 2 head_dim: 8 num_experts: 4 moe_topk: 2 router_aux_loss_coefficient: 0.01 "
      "tie_word_embeddings: true max_position_embeddings: 64 } } data { directory: '",
      data_directory,
      "' sequence_length: 32 } batch { global_batch_sequences: 8 micro_batch_sequences: 2 } numerics { "
      "threads_per_rank: 1 lm_head_chunk_tokens: 24 expert_block_rows: 8 } ",
      more);
  return OrDie(ParseTrainConfig(text, "tiny"));
}

TinyTrainer::TinyTrainer(const TrainConfig& config, Communicator& communicator, PublishActivity publish)
    : config_(config),
      communicator_(communicator),
      control_(OrDie(communicator.Split(0, {"control"}))),
      hooks_({.feed = [this](int64_t, int64_t micro) { return Feed(micro); },
              .decide = [this](const StepExchange& e) { return Decide(e); }}) {
  const std::string& directory = config_.data().directory();
  dataset_ = OrDie(PackedDataset::Open(directory + "/train.tokens", config_.data().sequence_length()));
  samples_ = std::make_unique<TokenSource>(
      OrDie(Loader::Create(dataset_.get(), {.global_batch = config_.batch().global_batch_sequences(),
                                            .micro_batch = config_.batch().micro_batch_sequences()})));
  validation_dataset_ = OrDie(PackedDataset::Open(directory + "/validation.tokens", config_.data().sequence_length()));
  validation_samples_ = std::make_unique<TokenSource>(OrDie(
      Loader::Create(validation_dataset_.get(), {.global_batch = config_.batch().global_batch_sequences(),
                                                 .micro_batch = config_.batch().micro_batch_sequences(),
                                                 .evaluation_samples = config_.batch().global_batch_sequences()})));
  const int threads = std::max(1, config_.numerics().threads_per_rank());
  run_ = OrDie(MakeRunPlan(config_, {.world_size = communicator.size(),
                                     .ranks_per_node = WorldOf(communicator).ranks_per_node,
                                     .threads = threads,
                                     .vocab_size = kTinyVocabulary}));
  const auto bytes = [&](int tier) {
    return std::max(run_->training_plan.arena_bytes[tier], run_->evaluation_plan.arena_bytes[tier]);
  };
  device_ = OrDie(MakeHostArena(TierKind::kDevice, bytes(0), 1, [&](int64_t n, int arena_threads) {
    return communicator.MakeArena(n, arena_threads, {"device tier"});
  }));
  host_ = OrDie(MakeHostArena(TierKind::kHost, bytes(1)));
  machine_ = {device_.get(), host_.get(), &communicator, control_.get(),
              &CpuKernels(), &lanes_,     threads,       std::move(publish)};
  std::string notes;
  file_ = OrDie(OpenFileTier(config_.memory().nvme(), communicator.rank(), bytes(2), *host_, &notes));
  machine_.file = file_.get();
  if (const int degree = config_.sharding().expert_degree(); degree > 1) {
    CheckedCommunicator world(&communicator, SequenceCheck::kHistory);
    groups_ = OrDie(MakeMeshGroups(world, degree));
    machine_.groups = &groups_;
  }
  executor_ = OrDie(Executor::Create(run_->training, run_->training_plan, machine_, {}));
  token_bytes_.assign(kTinyVocabulary, 1);
  feeder_ = std::make_unique<TokenFeeder>(run_->training, *executor_, *samples_, token_bytes_);
  validation_executor_ = OrDie(Executor::Create(run_->evaluation, run_->evaluation_plan, machine_, {}));
  validation_feeder_ =
      std::make_unique<TokenFeeder>(run_->evaluation, *validation_executor_, *validation_samples_, token_bytes_);
  evaluator_.emplace(run_->evaluation_plan, *validation_executor_, *validation_feeder_, *control_);
  APTM_CHECK(InitialiseState(*run_->training.table, 1, StateViews(run_->training_plan.layout, machine_)).ok());
  if (executor_->updater() == nullptr) return;
  executor_->updater()->Begin({.max_staleness = config_.optimizer().lock_free().max_staleness(),
                               .updates = std::vector<int64_t>(run_->training.units().size()),
                               .scalars_at = [](const UpdateDecision& of_step, int64_t) { return of_step; }});
}

void TinyTrainer::FillParameter(absl::string_view name_end, float value) {
  for (const StateView& view : StateViews(run_->training_plan.layout, machine_)) {
    if (view.state != kParameterState) continue;
    for (int32_t p : run_->training.units()[view.unit].parameters) {
      const Parameter& parameter = run_->training.parameters()[p];
      if (!absl::EndsWith(absl::StrCat(".", parameter.name), absl::StrCat(".", name_end))) continue;
      const int64_t first = view.stored_begin;
      const int64_t last = first + static_cast<int64_t>(view.stored().size());
      const int64_t end = parameter.unit_offset + parameter.shape.elements();
      for (int64_t i = std::max(first, parameter.unit_offset); i < std::min(last, end); ++i)
        view.stored()[i - first] = value;
    }
  }
}

int64_t TinyTrainer::moves() const { return plan_testing::MovesOf(run_->training_plan); }

std::vector<int32_t> TinyTrainer::ExpertCounts() const {
  const TensorId counts = run_->training.FindTensor("layers.1.mlp.router.counts");
  std::vector<int32_t> tokens(run_->training.tensors[counts].shape.elements());
  executor_->ReadOutput(counts, tokens.data());
  return tokens;
}

std::string TinyTrainer::FirstNonFinite() {
  OrDie(Feed(0));
  const NonFinite found = OrDie(executor_->FindNonFinite(step_));
  return found.op == kNone ? "" : Describe(run_->training, found);
}

LossSums TinyTrainer::Evaluate() {
  if (executor_->updater() != nullptr) APTM_CHECK(executor_->updater()->Drain().ok());
  return OrDie(evaluator_->Evaluate());
}

UpdateDecision TinyTrainer::Decide(const StepExchange& exchange) {
  loss_ = exchange.sums.loss / exchange.sums.weight;
  return {.scalars = {.learning_rate = 0,  // routing stays as it was made
                      .gradient_scale = static_cast<float>(1 / exchange.sums.weight)}};
}

void TinyTrainer::Step() {
  OrDie(executor_->Run(*run_->training_plan.FindProgram(/*begun=*/false, /*begins_next=*/false), step_,
                       samples_->MicroBatchesPerStep(communicator_.size()), hooks_));
  ++step_;
}

}  // namespace angel_ptm
