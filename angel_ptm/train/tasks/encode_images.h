// Files of latents from images, and images from files of latents.
#ifndef ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_
#define ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/progress.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/diffusers_autoencoder.h"
#include "angel_ptm/train/inference.h"
#include "angel_ptm/train/tasks/image_samples.h"

namespace angel_ptm {

struct EncodeImagesOptions {
  std::string images;       // a prepared image data set, or a folder of PNG and JPEG files, taken by their names
  std::string conditions;   // likewise, what a branch reads beside each image, poses or edges; empty: nothing
  bool validation = false;  // of a data set: its validation images, else those to train on
  // Of a data set of several languages, whose caption an image comes with: a language's name, where images without a
  // caption in it are left out, or "all", where an image comes once with each that it has one in. Empty: the first that
  // the image has one in.
  std::string language;
  std::string cache;   // a folder for means and deviations, by content of image and encoder; empty: none
  bool draws = false;  // a latent is a sample of the posterior, drawn by (seed, number of the image); else its mean
  uint64_t seed = 1;
  InferenceOptions inference;
  ReportProgress progress;  // "images"; null: to nobody
};

struct EncodedImages {
  int64_t count = 0, from_cache = 0;
  int64_t memory_bytes = 0;  // of the encoder
};

// Writes "latents" [N, channels, height, width] F32, scaled as models see them, and "sizes" [N, 6] F32 (height and
// width of the image, of what was asked for, top and left of a crop: none) as latents.h wants them, and
// "condition" like the latents if there are conditions; what stands at `output` is replaced. Errors: no images, other
// conditions than one for each, images of different sizes or that are not RGB, a language that the data set has not,
// what ImageEncoder says, a cache that is damaged.
absl::StatusOr<EncodedImages> EncodeImages(const AutoencoderKlDirectory& autoencoder,
                                           const EncodeImagesOptions& options, const std::string& output);

absl::StatusOr<int64_t> CountImages(const EncodeImagesOptions& options);

// The captions of a prepared data set's images, one for each that is encoded: its first in the image's language.
// Errors: a folder of images without captions.
struct CaptionsOfImages {
  std::vector<std::string> captions;
  std::string note;  // for people: that there are other languages, and none was asked for
};
absl::StatusOr<CaptionsOfImages> ImageCaptions(const EncodeImagesOptions& options);

// The images of all "latents" in a file, named by its "samples", a number each. Errors: latents of other channels than
// the decoder's, what LatentDecoder says.
absl::StatusOr<std::vector<GeneratedImage>> DecodeLatentFile(const std::string& path,
                                                             const AutoencoderKlDirectory& autoencoder,
                                                             const InferenceOptions& options,
                                                             const ReportProgress& progress = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_
