// Writes sampled images and latents to files, for people and for `angel-ptm report`.
#ifndef ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_
#define ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/tasks/batch_sampler.h"

namespace angel_ptm {

struct GeneratedImage {
  std::string prompt;
  Image image;
  std::optional<uint64_t> seed = {};  // that of its prompt, if it has its own
};

// Writes into <folder>, which it makes if needed: a PNG for each image, sheet.png with as many images as fit and their
// prompts, and last samples.jsonl, which lists the prompt of each image. Replaces the files of an earlier call, and
// removes those images that its samples.jsonl names and that were not replaced. Returns a note for people, or an empty
// text. Errors: those of files; no images; a build without image libraries.
absl::StatusOr<std::string> WriteImages(const std::string& folder, const SamplingFacts& facts,
                                        std::vector<GeneratedImage> images);

// Writes sampled latents, `samples_per_prompt` for each of `prompts` in turn, to a safetensors file: "latents" F32
// [N, channels, height, width], in the scale of the model's data; "samples" I32 [N], the number of each latent's
// prompt; and the facts as metadata, with the prompts as a JSON list. `latents` may hold more than these N. Replaces an
// existing file.
absl::Status WriteSampledLatents(const std::string& path, const PatchGrid& grid, const std::vector<int64_t>& prompts,
                                 int64_t samples_per_prompt, std::span<const float> latents,
                                 const SamplingFacts& facts);
// Reads the facts from such metadata. Facts that are missing or damaged have the values of SamplingFacts().
SamplingFacts FactsFrom(const SafetensorsMetadata& metadata);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_
