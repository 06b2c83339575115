// Sampling images from a checkpoint of a diffusion transformer.
#ifndef ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_
#define ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/train/inference.h"

namespace angel_ptm {

struct GenerateImagesOptions {
  // Captions; of a model of classes their names or numbers; of one without conditions nothing.
  std::vector<std::string> prompts;
  std::string negative_prompt;    // what guidance leads away from; empty: no condition
  int64_t images_per_prompt = 1;  // each from noise of its own
  int64_t steps = 30;
  double guidance = 4;  // Ho & Salimans 2022; 1: none
  uint64_t seed = 1;
  int64_t batch_max = 16;  // images made side by side
  InferenceOptions inference;
  std::FILE* notes = nullptr;  // where sentences go about what was cut or not understood; null: nowhere
};

struct GeneratedImage {
  std::string prompt;
  Image image;
};

// Prompt after prompt. Image i starts from noise that is a function of (seed, i); the same options give the same
// images. Flows are sampled by Euler's method, other models by DPM-Solver++(2M). Errors: a checkpoint of another model
// family, prompts that are not UTF-8 or that the model has no class for, guidance of a model that was trained without
// dropped conditions.
absl::StatusOr<std::vector<GeneratedImage>> GenerateImages(const std::string& checkpoint_path,
                                                           const GenerateImagesOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_GENERATE_IMAGES_H_
