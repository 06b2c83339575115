// Checks the values of a TrainConfig, together and against this machine, and derives numbers from them.
#ifndef ANGEL_PTM_CONFIG_VALIDATE_H_
#define ANGEL_PTM_CONFIG_VALIDATE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// The world and the machine a config is checked against.
struct RunFacts {
  int world_size = 1;                 // ranks of the run
  int local_ranks = 1;                // ranks of the run on this machine
  int64_t machine_memory_bytes = 0;   // 0: unknown; memory.host_bytes must then be set and is not compared
  int cores = 1;                      // cores that the ranks of this machine share
  int rank_cores = 0;                 // cores of this rank alone; 0: its share of `cores`
  int kernel_threads_max = 0;         // threads that libraries support in one rank's process; 0: unknown, unbounded
  bool mpi_built = false;             // this build has the MPI transport
  bool started_by_mpirun = false;     // mpirun started this process
  bool device_is_host_memory = true;  // the device tier is a bounded arena of the machine's memory (no GPU)
};

// Checks everything `train` and `plan` rely on. `config` has all fields set (load.h). kInvalidArgument holds all
// errors, one line each, in the order of the .proto: "field.path: what is wrong, wanted X, got Y". Products of sizes
// are checked only if all fields are valid. The planner decides whether the model fits the memory, and the loader
// whether it fits the prepared data.
absl::Status Validate(const TrainConfig& config, const RunFacts& facts);

// Checks what `prepare` relies on, data{} only. Errors have the same form.
absl::Status ValidatePrepare(const TrainConfig& config);

// The types that numerics.compute and numerics.gradients name.
DType ComputeType(const TrainConfig& config);
DType GradientType(const TrainConfig& config);

// Fields of a valid model with 0 resolved.
int64_t HeadDim(const HunyuanLmConfig& lm);
int64_t KeyValueHeads(const HunyuanLmConfig& lm);
DitConfig WithDefaults(DitConfig dit);
HunyuanDitConfig WithDefaults(HunyuanDitConfig dit);
// Height and width from text like "96x160", each 1 to kLatentSideMax; nullopt for any other text.
inline constexpr int64_t kLatentSideMax = 16384;
struct LatentSize {
  int64_t height = 0, width = 0;

  friend bool operator==(const LatentSize&, const LatentSize&) = default;
};
std::optional<LatentSize> ParseLatentSize(const std::string& text);
// What a prompt of sampling{} asks a model of latents for: the number of a sample, optionally followed by a space and
// the size of the sample's bucket: "3 96x160". Without a size it is bucket 0.
struct LatentPrompt {
  std::string number;
  std::optional<int64_t> bucket;  // nullopt if the model has no bucket of that size
};
LatentPrompt ParseLatentPrompt(const HunyuanDitConfig& dit, const std::string& text);
// Whether sharding.expert_degree may be `degree` on `world_size` ranks.
bool CanSplitExperts(const TrainConfig& config, int64_t degree, int world_size);
// Number of tokens of one sequence of batch{}: of a text, or patches of an image of the largest bucket.
int64_t SequenceTokens(const TrainConfig& config);

// The largest value of sampling.guidance, and whether a valid model can be guided at all: its training must drop
// conditions.
inline constexpr double kGuidanceMax = 1000;
bool CanBeGuided(const ModelConfig& model);

// Resolves communication.ranks_per_node for a world whose machines have `of_machine` ranks each (0 if they differ).
WorldShape WorldOf(const CommunicationConfig& communication, int world_size, int of_machine);

// Numbers that follow from a valid config.
struct DerivedConfig {
  int64_t micro_batches = 0;       // micro-batches of one step that hold sequences, over all ranks
  int64_t accumulation_steps = 0;  // micro-batches each rank computes per step: ceil(micro_batches / world size)
  int64_t step_tokens = 0;         // tokens of the global batch
  int threads_per_rank = 0;        // numerics.threads_per_rank with 0 resolved
  int64_t host_bytes = 0;          // per rank: memory.host_bytes with 0 resolved
  int64_t tiers_bytes = 0;         // per rank: bound of device and host tier together if both are host memory; 0: none
};

// Validate(config, facts) must be OK.
DerivedConfig Derive(const TrainConfig& config, const RunFacts& facts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_VALIDATE_H_
