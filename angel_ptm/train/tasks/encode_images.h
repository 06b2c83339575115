// Converts images to files of latents, and files of latents to images.
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
  std::string images;       // a prepared image data set, or a folder of PNG and JPEG files, in the order of their names
  std::string conditions;   // likewise, what a branch reads with each image, such as poses or edges; empty: none
  bool validation = false;  // of a data set: encode its validation images instead of its training images
  // Of a data set of several languages: the language of the caption that an image comes with. With the name of a
  // language, images without a caption in it are left out; with "all", an image comes once per language in which it has
  // a caption. Empty: the first language in which the image has a caption.
  std::string language;
  std::string cache;   // folder that caches means and deviations by content of image and encoder; empty: none
  bool draws = false;  // a latent is a draw from the posterior by (seed, number of the image); else its mean
  uint64_t seed = 1;
  InferenceOptions inference;
  ReportProgress progress;  // "images"; null: to nobody
};

struct EncodedImages {
  int64_t count = 0, from_cache = 0;
  int64_t memory_bytes = 0;  // that the encoder takes
};

// Writes "latents" [N, channels, height, width] F32, scaled as models see them; "sizes" [N, 6] F32 (height and width of
// the image, height and width asked for, top and left of the crop: none) as in latents.h; and, if there are conditions,
// "condition" in the format of the latents. Replaces `output`. Errors: no images; not exactly one condition per image;
// images of different sizes or that are not RGB; a language that the data set does not have; those of ImageEncoder; a
// damaged cache.
absl::StatusOr<EncodedImages> EncodeImages(const AutoencoderKlDirectory& autoencoder,
                                           const EncodeImagesOptions& options, const std::string& output);

// Writes a tensor "condition" [count, channels, height, width] F32: first the images at `paths`, PNG or JPEG, as scaled
// latents (the posteriors' means), then zeros. Errors: images that are not RGB, or whose size is not that of the
// latents times the autoencoder's reduction; those of ImageEncoder.
absl::Status EncodeConditions(const AutoencoderKlDirectory& autoencoder, const std::vector<std::string>& paths,
                              int64_t count, int64_t height, int64_t width, const InferenceOptions& options,
                              const std::string& output);

absl::StatusOr<int64_t> CountImages(const EncodeImagesOptions& options);

// Returns one caption for each image of a prepared data set that is encoded: its first in the image's language. Errors:
// a folder of images, which has no captions.
struct CaptionsOfImages {
  std::vector<std::string> captions;
  std::string note;  // for people: that there are other languages, and none was asked for
};
absl::StatusOr<CaptionsOfImages> ImageCaptions(const EncodeImagesOptions& options);

// Decodes all "latents" of a file to images. They are named by their prompts if the file's metadata has those,
// otherwise by its "samples", one number each. Errors: latents with other channels than the decoder's; those of
// LatentDecoder.
absl::StatusOr<std::vector<GeneratedImage>> DecodeLatentFile(const std::string& path,
                                                             const AutoencoderKlDirectory& autoencoder,
                                                             const InferenceOptions& options,
                                                             const ReportProgress& progress = nullptr);

// Decodes the latents in one of a run's sample folders (train/sample.h) to images beside them (WriteImages). Returns
// false, and does nothing, if the folder already has images or has no latents. Errors: those of files and of
// DecodeLatentFile.
absl::StatusOr<bool> DecodeSamples(const std::string& folder, const AutoencoderKlDirectory& autoencoder,
                                   const InferenceOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_ENCODE_IMAGES_H_
