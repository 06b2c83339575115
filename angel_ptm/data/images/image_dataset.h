// A prepared folder of images with captions: tokenizer.json, tokenizer_config.json, train.images, validation.images and
// dataset.json (format "angel-ptm image dataset"). FORMAT.md describes the files; dataset_folder.h, how they get there.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_DATASET_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_DATASET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image_file.h"
#include "angel_ptm/data/tokenizer.h"

namespace angel_ptm {

inline constexpr int32_t kImageDatasetVersion = 1;

struct ImageManifest {
  int32_t version = kImageDatasetVersion;
  ImageFileShape shape;
  uint64_t tokenizer_config_xxh64 = 0;
  uint64_t train_xxh64 = 0;       // of the header of train.images, which holds the checksums of the rest
  uint64_t validation_xxh64 = 0;  // of the header of validation.images
  int64_t train_images = 0;
  int64_t validation_images = 0;
  int64_t skipped = 0;                 // images left out because they were damaged
  int64_t caption_tokens_max = 0;      // of the longest caption
  std::vector<std::string> languages;  // "en", "zh"
  std::vector<std::string> styles;     // names of drawing styles, by style_id; at least one
  std::vector<std::string> classes;    // by class_id; empty: no classes

  std::string ToJson() const;  // the first line holds a checksum of the rest
  // `name` is the path, used in errors.
  static absl::StatusOr<ImageManifest> FromJson(const std::string& json, const std::string& name);
};

struct ImageDataset {
  ImageManifest manifest;
  std::unique_ptr<Tokenizer> tokenizer;
  // The text of the files when the dataset was opened. The folder may hold another dataset, or none, before a run ends.
  std::string tokenizer_json;
  std::string tokenizer_config_json;
  std::unique_ptr<ImageFile> train;
  std::unique_ptr<ImageFile> validation;  // null if there is none
};

// Opens the dataset and checks that its files belong together and are undamaged (large files are checked when they are
// read). Errors are one sentence each; if the folder has a text dataset, the error says so.
absl::StatusOr<ImageDataset> OpenImageDataset(const std::string& folder);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_DATASET_H_
