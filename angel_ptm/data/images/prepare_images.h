// Images with captions to a prepared folder: what `angel-ptm prepare` does for data.prepare.images.
#ifndef ANGEL_PTM_DATA_IMAGES_PREPARE_IMAGES_H_
#define ANGEL_PTM_DATA_IMAGES_PREPARE_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/base/progress.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/images/image_listing.h"

namespace angel_ptm {

struct PrepareImagesOptions {
  std::string output;  // folder, made if missing; an earlier dataset in it is replaced
  int32_t height = 0, width = 0;
  int32_t channels = 3;  // 1 or 3
  Fit fit = Fit::kPad;
  bool edges = false;  // EdgeMap of each image in its place
  // Patterns (* stands for anything) of an image's first caption in the first language. Empty `keep`: all.
  std::vector<std::string> keep, leave_out;
  int64_t images_max = 0;          // of those, evenly spread over the source's order; 0: all
  int64_t damaged_max = 0;         // images that may be damaged or missing; they are left out and named
  int32_t vocabulary_size = 4096;  // of the tokenizer that is trained on the captions, at most
  // Of the images whose source does not say, chosen by `seed`. 0: no validation images, the source's own neither.
  double validation_fraction = 0;
  uint64_t seed = 0;
  ReportProgress progress;  // "images"; null: to nobody
};

struct PrepareImagesReport {
  ImageManifest manifest;
  std::string output, note;
  std::vector<std::string> damaged;  // what is wrong with each
  std::vector<int64_t> captions;     // by language
  int32_t vocabulary_asked = 0;
  double seconds = 0;

  // For people; ends with a newline.
  std::string ToString() const;
};

// An earlier dataset in `output` stays until the new one is whole. Alpha is laid over white, then the image is resized.
// Errors: nothing left by the patterns, more damaged images than declared, a full disk.
absl::StatusOr<PrepareImagesReport> PrepareImages(const ImageListing& listing, const PrepareImagesOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_PREPARE_IMAGES_H_
