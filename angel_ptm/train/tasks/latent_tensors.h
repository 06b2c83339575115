// Checks and reads the tensors of encoded images in safetensors files, for models that are trained on latents.
#ifndef ANGEL_PTM_TRAIN_TASKS_LATENT_TENSORS_H_
#define ANGEL_PTM_TRAIN_TASKS_LATENT_TENSORS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/data/images/image_file.h"

namespace angel_ptm {

// Checks that the file has tensor `name` with that shape and type; where `dtype` is fp32, bf16 is accepted too.
// `model`, e.g. "model.dit", is named in the error.
absl::Status CheckTensor(const SafetensorsReader& file, const std::string& name, DType dtype, const Shape& shape,
                         const std::string& model);
// Returns the N of a tensor [N, sample...] of floats. Errors: those of CheckTensor; N = 0.
absl::StatusOr<int64_t> CountSamples(const SafetensorsReader& file, const std::string& name, const Shape& sample,
                                     const std::string& model);

// Reads row `row` of a checked tensor of floats whose rows have out.size() elements. `scratch` needs room for as many
// elements; it is used for bf16 tensors. Allocates only on error.
absl::Status ReadFloats(const SafetensorsReader& file, std::string_view name, int64_t row, std::span<float> out,
                        std::span<BFloat16> scratch);

// Up to 16 of `count` rows to check when a file is opened: spread evenly, including the first and the last.
std::vector<int64_t> SpotChecks(int64_t count);
// Checks that latents are scaled to about the noise's deviation of 1. Error: a root mean square outside 0.25 to 4.
absl::Status CheckScale(const std::string& path, double mean_square);

// The scaled latents of a prepared data set's images, in the order of the images: tensor "latents" [N, channels,
// height, width] as `angel-ptm encode` writes it.
class ImageLatents {
 public:
  // `sample` is model.dit's [channels, height, width]. Errors: a missing file or tensor, another shape or type, latents
  // of other images than those in `images`, latents that are not scaled.
  static absl::StatusOr<std::unique_ptr<ImageLatents>> Open(const std::string& path, const Shape& sample,
                                                            const ImageFile& images);

  // Reads an image's latent as planes [channels, height, width]; `scratch` needs room for as many elements.
  // Thread-safe. Allocates only on error.
  absl::Status Read(int64_t image, std::span<float> planes, std::span<BFloat16> scratch) const;
  // Digest of the file's header, its size and the rows of SpotChecks.
  uint64_t digest() const { return digest_; }

 private:
  explicit ImageLatents(SafetensorsReader file) : file_(std::move(file)) {}

  const SafetensorsReader file_;
  uint64_t digest_ = 0;
};

// Metadata key under which `angel-ptm encode` stores which image file the latents were made from: the checksum of that
// file's header (ImageFile::header_xxh64) as ChecksumText.
inline constexpr char kLatentImagesKey[] = "images_xxh64";

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_LATENT_TENSORS_H_
