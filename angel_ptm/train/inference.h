// A graph without backward on one rank, with the weights of a checkpoint or of exported files.
#ifndef ANGEL_PTM_TRAIN_INFERENCE_H_
#define ANGEL_PTM_TRAIN_INFERENCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/plan.h"
#include "kernels/kernels.h"

namespace angel_ptm {

struct InferenceOptions {
  std::string weights = "last";  // of a checkpoint; or "ema", the average
  int threads = 1;
  // Those that run a model that computes in that type.
  std::function<absl::StatusOr<const KernelTable*>(DType compute)> kernels_for = [](DType) { return &CpuKernels(); };
  int64_t memory_bytes_max = 0;  // of this machine; 0: unlimited
  int64_t device_bytes = 0;      // budget of the device tier, the rest of the weights being fetched; 0: none
  int64_t host_bytes = 0;        // of the host tier; 0: none
  NvmeConfig nvme;               // a page file for the weights that the host has no room for; none without directory
};

class Inference {
 public:
  // `what`: what memory is for, in the error that says how much is missing: "weights and key-value caches of 2
  // prompts". Errors: a checkpoint of other parameters than the graph's or without those weights, a machine or a budget
  // that is too small.
  static absl::StatusOr<std::unique_ptr<Inference>> Create(Graph graph, CheckpointReader& checkpoint,
                                                           const InferenceOptions& options, const std::string& what);
  // With parameters that `read` gives, WeightsReader::Read say. Errors: `read`'s, too.
  static absl::StatusOr<std::unique_ptr<Inference>> Create(Graph graph, const ReadParameters& read,
                                                           const InferenceOptions& options, const std::string& what);
  virtual ~Inference() = default;

  virtual const Graph& graph() const = 0;
  virtual Executor& executor() = 0;
  virtual int64_t memory_bytes() const = 0;  // that its tiers take
};

// Of what the graph's outputs follow from beside its inputs: the graph, the weights, and how it is computed (the level
// of the kernels, the matrix library, threads). For caches of outputs. Reads all weights.
absl::StatusOr<uint64_t> DigestOf(const Graph& graph, const WeightsReader& weights, const InferenceOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_INFERENCE_H_
