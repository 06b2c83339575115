// What the values of a TrainConfig must be together and on this machine, and what follows from them.
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
  int cores = 1;                      // that the ranks of this machine share
  int rank_cores = 0;                 // that this rank has to itself; 0: its share of `cores`
  int kernel_threads_max = 0;         // that libraries can serve in one rank's process; 0: unknown, unbounded
  bool mpi_built = false;             // this build has the MPI transport
  bool started_by_mpirun = false;     // mpirun started this process
  bool device_is_host_memory = true;  // the device tier is a bounded arena of the machine's memory (no GPU)
};

// Checks everything `train` and `plan` rely on. `config` has all fields set (load.h). kInvalidArgument holds all errors
// at once, one line each, in the order of the .proto (products of sizes only when each is valid): "field.path: what is
// wrong, wanted X, got Y". Whether the model fits the memory is the planner's answer, and whether it fits the prepared
// data the loader's.
absl::Status Validate(const TrainConfig& config, const RunFacts& facts);

// Checks what `prepare` relies on: data{} only, in the same form.
absl::Status ValidatePrepare(const TrainConfig& config);

// numerics.compute, numerics.gradients.
DType ComputeType(const TrainConfig& config);
DType GradientType(const TrainConfig& config);

// Of a valid model, 0 resolved.
int64_t HeadDim(const HunyuanLmConfig& lm);
int64_t KeyValueHeads(const HunyuanLmConfig& lm);
DitConfig WithDefaults(DitConfig dit);
HunyuanDitConfig WithDefaults(HunyuanDitConfig dit);
// Height and width of a text like "96x160", each at most kLatentSideMax; none if it is another.
inline constexpr int64_t kLatentSideMax = 16384;
struct LatentSize {
  int64_t height = 0, width = 0;

  friend bool operator==(const LatentSize&, const LatentSize&) = default;
};
std::optional<LatentSize> ParseLatentSize(const std::string& text);
// What a prompt of sampling{} asks a model of latents for: the number of a sample, and behind a space the size of the
// bucket that it is of: "3 96x160". Without a size that is bucket 0.
struct LatentPrompt {
  std::string number;
  std::optional<int64_t> bucket;  // none if the model has none of that size
};
LatentPrompt ParseLatentPrompt(const HunyuanDitConfig& dit, const std::string& text);
// Whether sharding.expert_degree may be that on so many ranks.
bool CanSplitExperts(const TrainConfig& config, int64_t degree, int world_size);
// Tokens that a sequence of batch{} has: of a text, or patches of an image, of the largest bucket.
int64_t SequenceTokens(const TrainConfig& config);

// The most that guidance of samples may be, and whether a valid model can be guided at all: conditions were dropped in
// its training.
inline constexpr double kGuidanceMax = 1000;
bool CanBeGuided(const ModelConfig& model);

// communication.ranks_per_node resolved: of a world whose machines have `of_machine` ranks each, 0 if they differ.
WorldShape WorldOf(const CommunicationConfig& communication, int world_size, int of_machine);

// Numbers that follow from a valid config.
struct DerivedConfig {
  int64_t micro_batches = 0;       // of one step, over all ranks, that hold sequences
  int64_t accumulation_steps = 0;  // micro-batches each rank computes per step: ceil(micro_batches / world size)
  int64_t step_tokens = 0;         // of the global batch
  int threads_per_rank = 0;        // 0 resolved
  int64_t host_bytes = 0;          // per rank, 0 resolved
  int64_t tiers_bytes = 0;  // per rank: of device and host tier together where both are host memory; 0: no such bound
};

// Validate(config, facts) must be OK.
DerivedConfig Derive(const TrainConfig& config, const RunFacts& facts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_VALIDATE_H_
