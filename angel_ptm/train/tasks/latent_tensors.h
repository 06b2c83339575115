// Tensors of encoded images in safetensors files: what models of latents check of them, and how rows of them are read.
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

// Errors: no tensor of that name; another shape or type than `model`, e.g. "model.dit", reads. Where fp32 is read, bf16
// is read too.
absl::Status CheckTensor(const SafetensorsReader& file, const std::string& name, DType dtype, const Shape& shape,
                         const std::string& model);
// The N of a tensor [N, sample...] of floats. Errors: as CheckTensor's, and N = 0.
absl::StatusOr<int64_t> CountSamples(const SafetensorsReader& file, const std::string& name, const Shape& sample,
                                     const std::string& model);

// Row `row` of a checked tensor of floats whose rows have out.size() elements. `scratch` has at least as many; it is
// used for bf16. Allocates only for an error.
absl::Status ReadFloats(const SafetensorsReader& file, std::string_view name, int64_t row, std::span<float> out,
                        std::span<BFloat16> scratch);

// Up to 16 of `count` rows, spread evenly, the first and the last among them: what is looked at when a file is opened.
std::vector<int64_t> SpotChecks(int64_t count);
// Noise has deviation 1, so latents must be scaled to about that. Error: a root mean square of tensor "latents" outside
// 0.25 to 4.
absl::Status CheckScale(const std::string& path, double mean_square);

// The latents of a prepared data set's images: tensor "latents" [N, channels, height, width] in the images' order,
// scaled, as `angel-ptm encode` writes it.
class ImageLatents {
 public:
  // Errors: a missing file or tensor, another shape or type than model.dit's `sample` [channels, height, width],
  // latents of other images than those of `images`, latents that are not scaled.
  static absl::StatusOr<std::unique_ptr<ImageLatents>> Open(const std::string& path, const Shape& sample,
                                                            const ImageFile& images);

  // Planes [channels, height, width] of an image's latent; `scratch` has room for as many elements. Thread-safe.
  // Allocates only for an error.
  absl::Status Read(int64_t image, std::span<float> planes, std::span<BFloat16> scratch) const;
  // Of the file's header, its size and the rows of SpotChecks.
  uint64_t digest() const { return digest_; }

 private:
  explicit ImageLatents(SafetensorsReader file) : file_(std::move(file)) {}

  const SafetensorsReader file_;
  uint64_t digest_ = 0;
};

// The key of the metadata in which `angel-ptm encode` names the image file that latents were made of: the checksum of
// its header (ImageFile::header_xxh64) as ChecksumText.
inline constexpr char kLatentImagesKey[] = "images_xxh64";

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_LATENT_TENSORS_H_
