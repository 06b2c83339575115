// Runs a graph without backward pass on one rank, with the weights of a checkpoint or of exported files.
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
  std::string weights = "last";  // which of a checkpoint's weights: "last", or "ema", their average
  int threads = 1;
  // Returns the kernels for a model that computes in the given type.
  std::function<absl::StatusOr<const KernelTable*>(DType compute)> kernels_for = [](DType) { return &CpuKernels(); };
  int64_t memory_bytes_max = 0;  // memory of this machine; 0: unlimited
  int64_t device_bytes = 0;      // budget of the device tier; weights beyond it are fetched; 0: none
  int64_t host_bytes = 0;        // budget of the host tier; 0: none
  NvmeConfig nvme;               // page file for weights that do not fit the host; none if the directory is empty
};

class Inference {
 public:
  // `what` names the use of the memory in the error that says how much is missing, for example "weights and key-value
  // caches of 2 prompts". Errors: the checkpoint's parameters are not those of the graph, or it lacks these weights;
  // the machine or a budget is too small.
  static absl::StatusOr<std::unique_ptr<Inference>> Create(Graph graph, CheckpointReader& checkpoint,
                                                           const InferenceOptions& options, const std::string& what);
  // The same with the parameters that `read` supplies, for example WeightsReader::Read. Also returns the errors of
  // `read`.
  static absl::StatusOr<std::unique_ptr<Inference>> Create(Graph graph, const ReadParameters& read,
                                                           const InferenceOptions& options, const std::string& what);
  virtual ~Inference() = default;

  virtual const Graph& graph() const = 0;
  virtual Executor& executor() = 0;
  virtual int64_t memory_bytes() const = 0;  // that its tiers take in all
};

// Digest of everything that determines the graph's outputs, besides its inputs: the graph, the weights, and how they
// are computed (kernel level, matrix library, threads). Serves as the key of caches of outputs. Reads all weights.
absl::StatusOr<uint64_t> DigestOf(const Graph& graph, const WeightsReader& weights, const InferenceOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_INFERENCE_H_
