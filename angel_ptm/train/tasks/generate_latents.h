// Sampling latents from a checkpoint of model.hunyuan_dit, with text states that were encoded elsewhere.
#ifndef ANGEL_PTM_TRAIN_TASKS_GENERATE_LATENTS_H_
#define ANGEL_PTM_TRAIN_TASKS_GENERATE_LATENTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/model/hunyuan_dit.h"
#include "angel_ptm/train/tasks/batch_sampler.h"
#include "angel_ptm/train/tasks/generate_images.h"
#include "angel_ptm/train/tasks/latents.h"

namespace angel_ptm {

// Prompts are samples of a file, by their numbers there.
class LatentConditions final : public Conditions {
 public:
  // Of so many rows of the graph. Sample i has the texts of file sample prompts[i / samples_per_prompt], and its
  // condition if the model has a branch, whose effect is multiplied by `control_scale`; guidance leads away from the
  // texts of file sample negatives[i / samples_per_prompt] under the same condition, or from those of the empty caption
  // where that is kNone and if there are no negatives. `file` must outlive it.
  LatentConditions(const HunyuanDitShape& shape, const LatentFile& file, std::vector<int64_t> prompts,
                   int64_t samples_per_prompt, int64_t rows, double control_scale = 1,
                   std::vector<int64_t> negatives = {});

  absl::Status SetRow(int64_t row, int64_t sample) override;
  absl::Status SetAway(int64_t row, int64_t sample) override;
  void Write(double time, const Graph& graph, Executor& executor) override;

 private:
  const LatentFile& file_;
  const std::vector<int64_t> prompts_, negatives_;
  const int64_t samples_per_prompt_, rows_;
  HunyuanInputs inputs_;
  const std::vector<float> control_scale_;  // empty without a branch
};

// Numbers of the file's samples. Errors name `field`, "--prompt": none, or what is no number of a sample.
absl::StatusOr<std::vector<int64_t>> ReadSampleNumbers(const std::vector<std::string>& prompts, const LatentFile& file,
                                                       const std::string& field);

// What the forward graph reads and puts out.
inline PatchGrid NoisyGrid(const HunyuanDitShape& shape) {
  return {shape.channels, shape.height, shape.width, shape.patch_size};
}
inline PatchGrid PredictionGrid(const HunyuanDitShape& shape) {
  return {shape.out_channels(), shape.height, shape.width, shape.patch_size, /*channels_last=*/true};
}
// How such a model is sampled if nothing else is said.
SamplingOptions HunyuanSampling(const HunyuanDitConfig& config);

// How a model is sampled as is asked for. Errors: ApplyTo's, a size that the patches do not divide, a scale of a branch
// that the model lacks.
absl::StatusOr<BatchOptions> LatentBatch(const TrainConfig& config, const GenerateImagesOptions& options);

// As GenerateImages, but prompts and negative prompts are numbers of samples in the file `texts`, which need have no
// latents; without a negative prompt guidance leads away from the file's empty caption. texts empty: the training
// samples of the checkpoint's configuration, of the bucket that is asked for if that is one. Latents may be of any size
// that the patches divide: the model's weights depend on none. Writes `output`, a file; returns how many latents that
// is.
absl::StatusOr<int64_t> GenerateLatents(const std::string& checkpoint_path, const std::string& texts,
                                        const GenerateImagesOptions& options, const std::string& output);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_GENERATE_LATENTS_H_
