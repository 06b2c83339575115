// Images that were sampled, as files: for people, and for `angel-ptm report`.
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
  std::optional<uint64_t> seed = {};  // its prompt's own
};

// Into <folder>, which it makes: a PNG for each image, sheet.png of as many as fit with their prompts, and
// samples.jsonl, which says which is of which prompt and is written last. They take the places of an earlier call's; of
// its images those are removed whose places none took, if its samples.jsonl names them. Returns a note for people, or
// an empty text. Errors: of files, no images, a build without image libraries.
absl::StatusOr<std::string> WriteImages(const std::string& folder, const SamplingFacts& facts,
                                        std::vector<GeneratedImage> images);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_IMAGE_SAMPLES_H_
