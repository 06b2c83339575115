// From images with captions to a prepared folder: what `angel-ptm prepare` does for data.prepare.images.
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
  std::string output;  // folder, created if missing; replaces an earlier dataset in it
  int32_t height = 0, width = 0;
  int32_t channels = 3;  // 1 or 3
  Fit fit = Fit::kPad;
  bool edges = false;  // store the EdgeMap of each image instead of the image
  // Patterns (* matches anything) for an image's first caption, in the first language that it has one in. Empty `keep`:
  // all.
  std::vector<std::string> keep, leave_out;
  int64_t images_max = 0;          // take at most this many, spread evenly over the source's order; 0: all
  int64_t damaged_max = 0;         // damaged or missing images to tolerate; they are left out and named
  int32_t vocabulary_size = 4096;  // maximum for the tokenizer that is trained on the captions
  // Fraction, chosen by `seed`, of the images whose split the source leaves open. 0: no validation images, not even
  // those of the source.
  double validation_fraction = 0;
  uint64_t seed = 0;
  ReportProgress progress;  // "images"; null: to nobody
};

struct PrepareImagesReport {
  ImageManifest manifest;
  std::string output, note;
  std::vector<std::string> damaged;  // what is wrong with each damaged image
  std::vector<int64_t> captions;     // by language
  int32_t vocabulary_asked = 0;
  double seconds = 0;

  // A text for people; ends with a newline.
  std::string ToString() const;
};

// An earlier dataset in `output` stays until the new one is complete. Alpha is blended onto white before the image is
// resized. Errors: the patterns leave nothing; more damaged images than allowed; a full disk.
absl::StatusOr<PrepareImagesReport> PrepareImages(const ImageListing& listing, const PrepareImagesOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_PREPARE_IMAGES_H_
