// A diffusion model as it is sampled: one checkpoint, or several that take turns along the way from noise to samples.
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

// A checkpoint that denoises at times from <= t < to of 0 to kDiffusionSteps, from the image to noise.
struct Expert {
  std::string checkpoint;
  double from = 0, to = 0;
};

// "DIR:FROM-TO", for an error named by `flag`.
absl::StatusOr<Expert> ParseExpert(const std::string& text, const std::string& flag);

class Denoisers {
 public:
  // `checkpoint`, of `config`, and `experts` of the same model that reads the same texts, none of whose times overlap;
  // the graph of each is what `build` makes. `what`: as Inference::Create's. Errors: Inference::Create's, experts that
  // are another model.
  static absl::StatusOr<Denoisers> Load(CheckpointReader& checkpoint, const TrainConfig& config,
                                        const std::vector<Expert>& experts, const std::function<Graph()>& build,
                                        const InferenceOptions& options, const std::string& what);

  // For BatchSampler, which this must outlive.
  std::vector<Denoiser> all() const;

 private:
  std::vector<std::unique_ptr<Inference>> models_;  // the checkpoint's, then the experts'
  std::vector<Expert> experts_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_DENOISERS_H_
