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

// Conditions from a file: a prompt is the number of a sample in the file.
class LatentConditions final : public Conditions {
 public:
  // For `rows` rows of the graph. Sample i has the texts of file sample prompts[i / samples_per_prompt]. If the model
  // has a branch, it also has that file sample's condition, and `control_scale` multiplies the branch's effect.
  // Guidance leads away from the texts of file sample negatives[i / samples_per_prompt], or from the empty caption if
  // that is kNone or `negatives` is empty, under the same condition. `file` must outlive this.
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

// Parses numbers of the file's samples. Errors name `field`, such as "--prompt": no prompts, or not a sample's number.
absl::StatusOr<std::vector<int64_t>> ReadSampleNumbers(const std::vector<std::string>& prompts, const LatentFile& file,
                                                       const std::string& field);

// The patches that the forward graph reads and outputs.
inline PatchGrid NoisyGrid(const HunyuanDitShape& shape) {
  return {shape.channels, shape.height, shape.width, shape.patch_size};
}
inline PatchGrid PredictionGrid(const HunyuanDitShape& shape) {
  return {shape.out_channels(), shape.height, shape.width, shape.patch_size, /*channels_last=*/true};
}
// How such a model is sampled by default.
SamplingOptions HunyuanSampling(const HunyuanDitConfig& config);

// How to sample the model as `options` ask. Errors: those of ApplyTo; a size that the patches do not divide; a scale
// for a branch that the model lacks.
absl::StatusOr<BatchOptions> LatentBatch(const TrainConfig& config, const GenerateImagesOptions& options);

// Like GenerateImages, but prompts and negative prompts are numbers of samples in the file `texts`, which need not have
// latents. Without a negative prompt, guidance leads away from the file's empty caption. If `texts` is empty, uses the
// training samples of the checkpoint's configuration, those of the bucket if the requested size is one. Latents may
// have any size that the patches divide, because no weight of the model depends on it. Writes the file `output` and
// returns the number of latents in it.
absl::StatusOr<int64_t> GenerateLatents(const std::string& checkpoint_path, const std::string& texts,
                                        const GenerateImagesOptions& options, const std::string& output);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_GENERATE_LATENTS_H_
