#include "tests/train/logits_model.h"

#include <utility>

#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/train/tasks/hunyuan_lm.h"
#include "angel_ptm/train/train_state.h"
#include "tests/support/or_die.h"

namespace angel_ptm {
LogitsModel::LogitsModel(const std::string& checkpoint_path, int64_t sequence)
    : world_(1), communicator_(world_.Create(0)) {
  const CheckpointReader checkpoint = OrDie(CheckpointReader::Open(checkpoint_path));
  const TrainConfig config = OrDie(ParseTrainConfig(checkpoint.manifest().model_config, checkpoint_path));
  const auto tokenizer = OrDie(Tokenizer::LoadFolder(checkpoint_path));
  const HunyuanLmShape shape = ShapeFromConfig(config.model(), tokenizer->vocabulary_size());
  vocabulary_ = shape.vocab_size;
  graph_ = BuildHunyuanLmLogits(
      shape, {.rows = 1, .sequence = sequence, .expert_block_rows = config.numerics().expert_block_rows()});
  plan_ = OrDie(MakePlan(graph_, OrDie(FactsOf(graph_, CpuKernels(), {.threads = 1}, 1)), {}));
  device_ = OrDie(MakeHostArena(TierKind::kDevice, plan_.arena_bytes[0]));
  host_ = OrDie(MakeHostArena(TierKind::kHost, plan_.arena_bytes[1]));
  const Machine machine{device_.get(), host_.get(), communicator_.get(), communicator_.get(), &CpuKernels(), &lanes_};
  executor_ = OrDie(Executor::Create(graph_, plan_, machine, {}));
  OrDie(LoadState(checkpoint, graph_.states(), StateViews(plan_.layout, machine)));
}

std::vector<float> LogitsModel::Logits(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                                       std::span<const int32_t> segment_start) {
  executor_->WriteInput(graph_.FindTensor("tokens"), tokens.data());
  executor_->WriteInput(graph_.FindTensor("positions"), positions.data());
  executor_->WriteInput(graph_.FindTensor("segment_start"), segment_start.data());
  const absl::Status played = executor_->RunMicroStep(0);
  APTM_CHECK(played.ok(), std::string(played.message()));
  std::vector<float> logits(tokens.size() * static_cast<size_t>(vocabulary_));
  executor_->ReadOutput(graph_.FindTensor("logits.c"), logits.data());
  return logits;
}

}  // namespace angel_ptm
