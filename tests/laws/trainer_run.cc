#include "tests/laws/trainer_run.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <regex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/train_state.h"
#include "angel_ptm/train/trainer.h"
#include "comm/local.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr const char* kConfig = R"(
model {
  hunyuan_lm {
    hidden_size: 32
    intermediate_size: 32
    num_hidden_layers: 2
    num_attention_heads: 4
    num_key_value_heads: 2
    head_dim: 8
    max_position_embeddings: 64
    initializer_range: 0.1
  }
}
data { sequence_length: 32 }
optimizer {
  adamw { learning_rate: 1e-2 }
  schedule { warmup_steps: 2 }
}
batch { global_batch_sequences: 4 }
steps: 6
evaluation { every_steps: 3 sequences: 3 }
numerics { threads_per_rank: 1 lm_head_chunk_tokens: 20 expert_block_rows: 8 }
checkpoint { every_steps: 0 }
)";

}  // namespace

TrainConfig TrainerConfig(bool moe, const std::string& folder, const std::string& run,
                          const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {absl::StrCat("data.directory=", folder, "/data"),
                                  absl::StrCat("output.directory=", folder, "/", run)};
  if (moe) {
    for (const char* field :
         {"num_experts=4", "moe_topk=2", "router_aux_loss_coefficient=0.01", "tie_word_embeddings=true"}) {
      all.push_back(absl::StrCat("model.hunyuan_lm.", field));
    }
  }
  all.insert(all.end(), overrides.begin(), overrides.end());
  const auto config = ParseTrainConfig(kConfig, "tests/laws/trainer_run.cc", all);
  APTM_CHECK(config.ok(), config.status().ToString());
  return *config;
}

RunFacts TrainerFacts(int world_size) {
  return {.world_size = world_size,
          .local_ranks = world_size,
          .machine_memory_bytes = int64_t{4} << 30,
          .cores = 1,
          .mpi_built = false};
}

absl::Status TrainerOutcome::status() const {
  for (const absl::Status& status : statuses) {
    if (!status.ok() && !absl::IsUnavailable(status)) return status;
  }
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

TrainerOutcome RunTrainer(const TrainerRun& run) {
  const int size = run.world_size;
  const RunFacts facts = TrainerFacts(size);
  TrainerOutcome outcome;
  outcome.statuses.resize(size);
  for (const TrainConfig& config : run.configs) {
    if (const absl::Status valid = Validate(config, facts); !valid.ok()) {
      outcome.statuses[0] = valid;
      return outcome;
    }
  }
  LocalWorld world(size, {.timeout_seconds = 120.0});
  std::atomic<bool> stop = false;
  std::once_flag before_stop;
  std::atomic<int64_t> last_step = -1;
  const PublishActivity publish = [&](int64_t step, std::string_view activity) {
    if (run.watch) run.watch(step, activity);
    if (step == run.stop_in_step) {
      if (run.before_stop) std::call_once(before_stop, run.before_stop);
      stop = true;
    }
    for (int64_t seen = last_step; step > seen && !last_step.compare_exchange_weak(seen, step);) {
    }
  };
  char* text = nullptr;
  size_t text_bytes = 0;
  std::FILE* out = open_memstream(&text, &text_bytes);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        const std::unique_ptr<Communicator> wrapped = run.wrap ? run.wrap(*communicator) : nullptr;
        const TrainConfig& config = run.configs[run.configs.size() == 1 ? 0 : rank];
        TrainerOptions options{
            .resume = run.resume,
            .resume_from = run.resume_from,
            .stop_requested = &stop,
            .out = out,
            .publish = publish,
            .build = {.commit = run.commits.empty() ? "test" : run.commits[rank], .processor = "test"}};
        if (run.gpus) options.gpus = run.gpus(rank);
        // As in the program: waits outside of communicators also learn of a rank that failed.
        options.gpus.nccl.wait.poll = [&world](double) { return world.status(); };
        absl::Status& status = outcome.statuses[rank];
        RunFacts own_facts = facts;
        if (!run.machine_memory_bytes.empty()) own_facts.machine_memory_bytes = run.machine_memory_bytes[rank];
        status = TrainRank(config, own_facts, options, wrapped ? *wrapped : *communicator);
        if (!status.ok()) world.Abort(std::string(status.message()));
      });
    }
  }
  std::fclose(out);
  outcome.text.assign(text, text_bytes);
  std::free(text);
  outcome.last_step_begun = last_step;
  return outcome;
}

std::vector<std::string> MetricLines(const TrainConfig& config) {
  static const std::regex fixed(
      R"re("(step|loss|loss_mse|loss_bound|grad_norm|learning_rate|expert_balance|validation_\w+)": [^,}]+)re");
  std::ifstream file(config.output().directory() + "/metrics.jsonl");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    std::string kept;
    for (std::sregex_iterator it(line.begin(), line.end(), fixed), end; it != end; ++it) {
      absl::StrAppend(&kept, it->str(), " ");
    }
    lines.push_back(kept);
  }
  return lines;
}

std::vector<double> Losses(const TrainConfig& config) {
  static const std::regex loss(R"re("loss": ([^,} ]+))re");
  std::vector<double> losses;
  for (const std::string& line : MetricLines(config)) {
    std::smatch match;
    APTM_CHECK(std::regex_search(line, match, loss), line);
    losses.push_back(std::stod(match[1]));
  }
  return losses;
}

absl::StatusOr<std::vector<float>> NewestState(const TrainConfig& config) {
  ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(CheckpointDirectory(config)));
  if (latest.path.empty()) return absl::NotFoundError("no checkpoint in " + CheckpointDirectory(config));
  ASSIGN_OR_RETURN(const CheckpointReader checkpoint, CheckpointReader::Open(latest.path));
  std::vector<float> state;
  for (UnitId unit = 0; unit < static_cast<UnitId>(checkpoint.manifest().units.size()); ++unit) {
    const size_t elements = static_cast<size_t>(checkpoint.manifest().units[unit].elements);
    for (const char* c : {"parameters", "moment1", "moment2"}) {
      state.resize(state.size() + elements);
      RETURN_IF_ERROR(checkpoint.ReadRange(unit, c, 0, std::span(state).last(elements)));
    }
  }
  return state;
}

int64_t UnconstrainedDeviceBytes(const TrainConfig& config, int world_size) {
  TrainConfig free = config;
  free.mutable_memory()->set_device_bytes(0);
  const auto plan = MakeRunPlan(free, {.world_size = world_size, .vocab_size = kTinyVocabulary});
  APTM_CHECK(plan.ok(), plan.status().ToString());
  return (*plan)->training_plan.arena_bytes[0];
}

}  // namespace angel_ptm
