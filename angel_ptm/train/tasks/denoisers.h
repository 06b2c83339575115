// A diffusion model for sampling: one checkpoint, or several that take turns on the way from noise to samples.
#ifndef ANGEL_PTM_TRAIN_TASKS_DENOISERS_H_
#define ANGEL_PTM_TRAIN_TASKS_DENOISERS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/train/inference.h"
#include "angel_ptm/train/tasks/batch_sampler.h"

namespace angel_ptm {

// A checkpoint that denoises at times from <= t < to. Times run from 0, the image, to kDiffusionSteps, noise.
struct Expert {
  std::string checkpoint;
  double from = 0, to = 0;
};

// Parses "DIR:FROM-TO". Errors name `flag`.
absl::StatusOr<Expert> ParseExpert(const std::string& text, const std::string& flag);

class Denoisers {
 public:
  // Loads `checkpoint`, which has configuration `config`, and `experts`, which must be the same model, read the same
  // texts, and have disjoint times. `build` makes the graph of each. `what` is that of Inference::Create. Errors: those
  // of Inference::Create; experts that are another model.
  static absl::StatusOr<Denoisers> Load(CheckpointReader& checkpoint, const TrainConfig& config,
                                        const std::vector<Expert>& experts, const std::function<Graph()>& build,
                                        const InferenceOptions& options, const std::string& what);

  // The denoisers for a BatchSampler. This object must outlive the sampler.
  std::vector<Denoiser> all() const;

 private:
  std::vector<std::unique_ptr<Inference>> models_;  // the checkpoint's, then the experts'
  std::vector<Expert> experts_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_DENOISERS_H_
