// What the diffusion law tests train and compare (runs are those of trainer_run.h).
#ifndef ANGEL_PTM_TESTS_LAWS_DIFFUSION_RUN_H_
#define ANGEL_PTM_TESTS_LAWS_DIFFUSION_RUN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// A model of latents (tests/support/tiny_latents.h) with all parts of the objective.
inline constexpr const char* kTinyHunyuanDit = R"(
model {
  hunyuan_dit {
    channels: 2
    height: 8
    hidden_size: 32
    intermediate_size: 48
    num_hidden_layers: 4
    num_attention_heads: 2
    clip_hidden_size: 16
    clip_length: 5
    t5_hidden_size: 32
    t5_length: 6
    pooled_size: 16
    clip_dropout: 0.3
    t5_dropout: 0.3
    noise_offset: 0.1
    variance_weight: 1
  }
}
)";
// Six steps of at least two micro-batches a rank of two, two evaluations, an average of the weights.
inline constexpr const char* kDiffusionTraining = R"(
optimizer {
  adamw { learning_rate: 1e-2 }
  schedule { kind: CONSTANT warmup_steps: 2 }
  ema_decay: 0.9
}
batch { global_batch_sequences: 10 micro_batch_sequences: 2 }
steps: 6
evaluation { every_steps: 3 sequences: 3 weights: EMA }
memory { page_bytes: 8192 }
numerics { threads_per_rank: 1 }
checkpoint { every_steps: 0 }
)";

// A --set override: a device budget of `share` of the bytes that each of two ranks takes without a budget.
std::string DeviceBudget(const TrainConfig& config, double share);

// Every state in the newest checkpoint, by unit and name: "blocks.0 ema".
std::map<std::string, std::vector<float>> StatesOf(const TrainConfig& config);

// Every file that the run's own sampling wrote at a step, by name.
std::map<std::string, std::string> SamplesOf(const TrainConfig& config, int64_t step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_DIFFUSION_RUN_H_
