// Images to latents and back, with the AutoencoderKL of a diffusers directory.
#ifndef ANGEL_PTM_TRAIN_TASKS_AUTOENCODER_H_
#define ANGEL_PTM_TRAIN_TASKS_AUTOENCODER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/diffusers_autoencoder.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/train/inference.h"

namespace angel_ptm {

// An encoder's output for an image: means and standard deviations of normal numbers, as planes [channels, height,
// width] of the latent, not scaled.
struct Posterior {
  std::vector<float> mean, std;
};

class ImageEncoder {
 public:
  // An encoder for images of the given size. Errors: sides that are not multiples of the encoder's reduction; weights
  // that cannot be read; too little memory.
  static absl::StatusOr<std::unique_ptr<ImageEncoder>> Create(const AutoencoderKlDirectory& directory, int64_t height,
                                                              int64_t width, const InferenceOptions& options);

  // `pixels`: [height, width, 3].
  absl::StatusOr<Posterior> Encode(std::span<const uint8_t> pixels);

  int64_t memory_bytes() const { return inference_->memory_bytes(); }
  int64_t channels() const { return channels_; }
  int64_t latent_height() const { return height_; }
  int64_t latent_width() const { return width_; }
  // Encoders with equal digests give equal posteriors for equal images (inference.h, DigestOf).
  uint64_t digest() const { return digest_; }

 private:
  ImageEncoder() = default;

  int64_t channels_ = 0, height_ = 0, width_ = 0;  // of a latent
  uint64_t digest_ = 0;
  std::unique_ptr<Inference> inference_;
  std::vector<float> image_, moments_;
};

class LatentDecoder {
 public:
  // A decoder for latents of the given size. Errors: those of ImageEncoder::Create.
  static absl::StatusOr<std::unique_ptr<LatentDecoder>> Create(const AutoencoderKlDirectory& directory, int64_t height,
                                                               int64_t width, const InferenceOptions& options);

  // `latent`: planes [channels, height, width], scaled. Returns planes [3, height, width] of the image with levels in
  // -1..1, or slightly outside.
  absl::StatusOr<std::span<const float>> Decode(std::span<const float> latent);
  absl::StatusOr<Image> DecodeImage(std::span<const float> latent);

  int64_t memory_bytes() const { return inference_->memory_bytes(); }
  int64_t image_height() const { return image_height_; }
  int64_t image_width() const { return image_width_; }

 private:
  LatentDecoder() = default;

  LatentScaling scaling_;
  int64_t image_height_ = 0, image_width_ = 0;
  std::unique_ptr<Inference> inference_;
  std::vector<float> latent_, pixels_, planes_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_AUTOENCODER_H_
