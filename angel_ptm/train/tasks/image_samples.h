// Writes sampled images to files, for people and for `angel-ptm report`.
#ifndef ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_
#define ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/train/tasks/batch_sampler.h"

namespace angel_ptm {

struct GeneratedImage {
  std::string prompt;
  Image image;
  std::optional<uint64_t> seed = {};  // that of its prompt, if it has its own
};

// Writes into <folder>, which it makes if needed: a PNG for each image, sheet.png with all images and their prompts,
// and last samples.jsonl, which lists the prompt of each image. Replaces the files of an earlier call, and removes
// those images that its samples.jsonl names and that were not replaced. Returns a note for people, or an empty text.
// Errors: those of files; no images; a build without image libraries.
absl::StatusOr<std::string> WriteImages(const std::string& folder, const SamplingFacts& facts,
                                        std::vector<GeneratedImage> images);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_
