// Sampling images from a checkpoint of a diffusion transformer.
#ifndef ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_
#define ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/diffusion/sampling.h"
#include "angel_ptm/train/inference.h"
#include "angel_ptm/train/tasks/denoisers.h"
#include "angel_ptm/train/tasks/image_samples.h"
#include "angel_ptm/train/tasks/prompt_files.h"

namespace angel_ptm {

struct GenerateImagesOptions {
  // Captions; for a model of classes, their names or numbers; for a model without conditions, nothing.
  std::vector<std::string> prompts;
  std::string negative_prompt;  // what guidance leads away from; empty: no condition
  // By prompt; none: the common value; empty: no prompt has its own. Image k of a prompt with a seed has noise of
  // (seed, k).
  std::vector<std::optional<std::string>> own_negatives;
  std::vector<std::optional<uint64_t>> own_seeds;
  int64_t images_per_prompt = 1;  // each from its own noise
  int64_t steps = 30;
  double guidance = 4;                   // Ho & Salimans 2022; 1: none
  std::optional<SamplingMethod> method;  // none: DefaultMethod of the model's prediction
  uint64_t seed = 1;
  int64_t batch_max = 16;               // images made side by side
  std::vector<Expert> experts;          // checkpoints of the same model that denoise at part of the times
  std::optional<double> control_scale;  // factor on the effect of a branch that reads a condition; none: 1
  std::optional<std::string> size;      // HEIGHTxWIDTH of a model's latents; none: the model's own
  InferenceOptions inference;
  std::FILE* notes = nullptr;  // receives notes about what was cut or not understood; null: none
  ReportProgress progress;     // receives the sampler's steps; null: no reports
};

// What guidance leads each prompt away from: the prompt's own negative, or the common one.
std::vector<NegativePrompt> NegativesOf(const GenerateImagesOptions& options);
// Changes `batch` from the model's defaults to what `options` ask for. `unguided`: why the model cannot be guided,
// namely how it was trained; empty if it can. Errors: those of CheckBatchOptions; the number of images per prompt; a
// negative prompt without guidance; guidance of a model that cannot be guided.
absl::Status ApplyTo(const GenerateImagesOptions& options, const std::string& unguided, BatchOptions& batch);

// Returns the images prompt after prompt. Image i starts from noise that is a function of (seed, i); the same options
// give the same images. Errors: a checkpoint of another model family; prompts that are not UTF-8 or name no class of
// the model; guidance of a model that was trained without dropped conditions; a method for another prediction.
absl::StatusOr<std::vector<GeneratedImage>> GenerateImages(const std::string& checkpoint_path,
                                                           const GenerateImagesOptions& options);

// The same for a model with model.dit.latents: writes the latents to the file `output` (WriteSampledLatents, with
// prompts numbered as in the options) and returns how many there are.
absl::StatusOr<int64_t> GenerateDitLatents(const std::string& checkpoint_path, const GenerateImagesOptions& options,
                                           const std::string& output);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_
