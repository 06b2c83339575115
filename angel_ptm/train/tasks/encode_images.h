// Files of latents from images, and images from files of latents.
#ifndef ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_
#define ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/diffusers_autoencoder.h"
#include "angel_ptm/train/inference.h"
#include "angel_ptm/train/tasks/image_samples.h"

namespace angel_ptm {

struct EncodeImagesOptions {
  std::string images;       // a prepared image data set, or a folder of PNG and JPEG files, taken by their names
  std::string conditions;   // likewise, what a branch reads beside each image, poses or edges; empty: nothing
  bool validation = false;  // of a data set: its validation images, else those to train on
  std::string cache;        // a folder for means and deviations, by content of image and encoder; empty: none
  bool draws = false;  // a latent is a sample of the posterior, drawn by (seed, number of the image); else its mean
  uint64_t seed = 1;
  InferenceOptions inference;
};

struct EncodedImages {
  int64_t count = 0, from_cache = 0;
  int64_t memory_bytes = 0;  // of the encoder
};

// Writes "latents" [N, channels, height, width] F32, scaled as models see them, and "sizes" [N, 6] F32 (height and
// width of the image, of what was asked for, top and left of a crop: none) as latents.h wants them, and
// "condition" like the latents if there are conditions; what stands at `output` is replaced. Errors: no images, other
// conditions than one for each, images of different sizes or that are not RGB, what ImageEncoder says, a cache that is
// damaged.
absl::StatusOr<EncodedImages> EncodeImages(const AutoencoderKlDirectory& autoencoder,
                                           const EncodeImagesOptions& options, const std::string& output);

// Writes "condition" [count, channels, height, width] F32: the images of `paths`, PNG or JPEG, as scaled latents (the
// posteriors' means), then zeros. Errors: images that are not RGB or not of the latents' size times the autoencoder's
// reduction, what ImageEncoder says.
absl::Status EncodeConditions(const AutoencoderKlDirectory& autoencoder, const std::vector<std::string>& paths,
                              int64_t count, int64_t height, int64_t width, const InferenceOptions& options,
                              const std::string& output);

absl::StatusOr<int64_t> CountImages(const EncodeImagesOptions& options);

// The captions of a prepared data set's images, one for each: its first in the first language that has any. Errors: a
// folder of images without captions.
absl::StatusOr<std::vector<std::string>> ImageCaptions(const EncodeImagesOptions& options);

// The images of all "latents" in a file, named by their prompts if the file has those, else by its "samples", a number
// each. Errors: latents of other channels than the decoder's, what LatentDecoder says.
absl::StatusOr<std::vector<GeneratedImage>> DecodeLatentFile(const std::string& path,
                                                             const AutoencoderKlDirectory& autoencoder,
                                                             const InferenceOptions& options);

// Decodes the latents that a run has sampled of itself, in a folder of train/sample.h, into images beside them
// (WriteImages). Returns false, and does nothing, if the folder has images already or no latents. Errors: those of
// files, DecodeLatentFile's.
absl::StatusOr<bool> DecodeSamples(const std::string& folder, const AutoencoderKlDirectory& autoencoder,
                                   const InferenceOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_
