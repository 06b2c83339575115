// Which image, cut and turned how, with which caption, is sample number i: a pure function of (file, options, i). It
// does not know the number of ranks.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_LOADER_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_LOADER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image_file.h"
#include "angel_ptm/data/loader.h"

namespace angel_ptm {

struct ImageLoaderOptions {
  int64_t global_batch = 1;  // images a step, over all ranks and micro-batches
  int64_t micro_batch = 1;   // images a rank computes at a time
  uint64_t seed = 0;
  // 0: training, epoch after epoch, each in an order of its own. n > 0: evaluation on n images, always the same ones in
  // the same order, without flips, cut in the middle, named by their first caption.
  int64_t evaluation_samples = 0;
  int32_t height = 0, width = 0;  // that are cut out, at most the file's; 0: the file's
  double flip_probability = 0;    // mirrored left to right
  int32_t caption_tokens = 0;     // L, of a row of tokens; longer captions are cut
  int32_t pad = 1;                // token that fills rows
  // Training: 0 always the first caption, 1 all captions of an image equally often.
  double other_captions = 0;
  // Training draws one language a sample, evaluation takes number (sample index mod their number); where an image has
  // no caption in that one, the next. Empty: all of the file.
  std::vector<int32_t> languages;
};

// What sample number i is.
struct ImageSample {
  int64_t image = -1;  // of the file; -1: beyond an evaluation's samples
  int32_t top = 0, left = 0;
  bool flipped = false;
  int32_t language = 0;
  int32_t which = 0;  // caption; -1: the image has none in these languages
};

// Rows of a micro-batch, all in the caller's memory. Spans may be empty: then that is not filled.
struct ImageBatch {
  std::span<float> images;          // [B, C, H, W], -1..1
  std::span<int32_t> tokens;        // [B, L]
  std::span<int32_t> token_counts;  // [B], 0 to L
  std::span<int32_t> class_ids;     // [B], -1: none
  std::span<int32_t> style_ids;     // [B]
  std::span<int64_t> samples;  // [B], sample index: the key of a row's noise and timestep; -1: a row without weight
  std::span<int64_t> numbers;  // [B], of the row's image in the file; -1: a row without weight
};

class ImageLoader {
 public:
  // `file` must outlive the loader. Errors: batches below 1, a cut larger than the images, languages that the file does
  // not have, probabilities outside 0..1, caption_tokens below 1.
  static absl::StatusOr<ImageLoader> Create(const ImageFile* file, const ImageLoaderOptions& options);

  // As Loader's: sample first + (m*w + r)*b + i is row i of micro-batch m on rank r of w. Rows beyond the step's
  // samples (or the evaluation's) are zeros without caption and weigh nothing. Returns the rows that weigh. Allocates
  // only for an error.
  absl::StatusOr<int64_t> FillMicroBatch(const MicroBatchPosition& position, const ImageBatch& batch) const;

  // Errors: the file's, since the number of captions is read.
  absl::StatusOr<ImageSample> SampleAt(int64_t sample_index) const;

  int64_t MicroBatchesPerStep(int64_t world) const;
  int64_t sample_count() const { return sample_count_; }
  int64_t step_count() const { return (sample_count_ + options_.global_batch - 1) / options_.global_batch; }
  const ImageFile& file() const { return *file_; }
  const ImageLoaderOptions& options() const { return options_; }  // 0 and empty resolved

  // Names what makes sample number i what it is, for Task::sample_order.
  std::string Describe() const;

 private:
  ImageLoader(const ImageFile* file, ImageLoaderOptions options);
  absl::Status FillRow(int64_t row, int64_t sample_index, const ImageBatch& batch) const;

  const ImageFile* file_;
  ImageLoaderOptions options_;
  int64_t sample_count_;
};

// Aspect buckets: sizes of about `area` pixels whose sides are multiples of `multiple`, with aspect ratios (width to
// height) from 1 / ratio_max to ratio_max, by width.
struct ImageSize {
  int32_t width = 0, height = 0;
  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};
std::vector<ImageSize> AspectBuckets(int64_t area, int32_t multiple, double ratio_max);
// Which bucket an image of that size goes to: the one whose aspect ratio is nearest as a factor; of two, the earlier.
int64_t BucketOf(std::span<const ImageSize> buckets, ImageSize image);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_LOADER_H_
