// Decides which image is sample number i, how it is cut and flipped, and with which caption: a pure function of (file,
// options, i) that does not depend on the number of ranks.
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
  int64_t global_batch = 1;  // images per step, over all ranks and micro-batches
  int64_t micro_batch = 1;   // images a rank computes at a time
  uint64_t seed = 0;
  // 0: training, epoch after epoch, each in its own order. n > 0: evaluation on n images, always the same ones in the
  // same order, without flips, cut from the middle, with their first caption.
  int64_t evaluation_samples = 0;
  int32_t height = 0, width = 0;  // size of the cut, at most the file's; 0: the file's
  double flip_probability = 0;    // of mirroring left to right
  int32_t caption_tokens = 0;     // L, the length of a row of tokens; longer captions are cut
  int32_t pad = 1;                // token that fills rows
  // Training: 0 always takes the first caption, 1 takes all captions of an image equally often.
  double other_captions = 0;
  // Training draws a language for each sample; evaluation takes number (sample index mod their number). If an image has
  // no caption in that language, the next one is used. Empty: all languages of the file.
  std::vector<int32_t> languages;
};

// What sample number i consists of.
struct ImageSample {
  int64_t image = -1;  // index in the file; -1: after the samples of an evaluation
  int32_t top = 0, left = 0;
  bool flipped = false;
  int32_t language = 0;
  int32_t which = 0;  // number of the caption; -1: the image has none in these languages
};

// Rows of a micro-batch, in the caller's memory. Empty spans are not filled.
struct ImageBatch {
  std::span<float> images;          // [B, C, H, W], -1..1
  std::span<int32_t> tokens;        // [B, L]
  std::span<int32_t> token_counts;  // [B], 0 to L
  std::span<int32_t> class_ids;     // [B], -1: none
  std::span<int32_t> style_ids;     // [B]
  std::span<int64_t> samples;       // [B], sample index, the key of a row's noise and time; -1: a row without weight
  std::span<int64_t> numbers;       // [B], index of the row's image in the file; -1: a row without weight
};

class ImageLoader {
 public:
  // `file` must outlive the loader. Errors: batches below 1; a cut larger than the images; languages that the file does
  // not have; probabilities outside 0..1; caption_tokens below 1.
  static absl::StatusOr<ImageLoader> Create(const ImageFile* file, const ImageLoaderOptions& options);

  // As with Loader, row i of micro-batch m on rank r of w is sample first + (m*w + r)*b + i. Rows after the samples of
  // the step (or of the evaluation) are zeros without caption and have no weight. Returns the number of rows with
  // weight. Allocates only for an error.
  absl::StatusOr<int64_t> FillMicroBatch(const MicroBatchPosition& position, const ImageBatch& batch) const;

  // Reads the number of captions from the file. Errors: those of the file.
  absl::StatusOr<ImageSample> SampleAt(int64_t sample_index) const;

  int64_t MicroBatchesPerStep(int64_t world) const;
  int64_t sample_count() const { return sample_count_; }
  int64_t step_count() const { return (sample_count_ + options_.global_batch - 1) / options_.global_batch; }
  const ImageFile& file() const { return *file_; }
  const ImageLoaderOptions& options() const { return options_; }  // with 0 and empty values resolved

  // Names everything that determines sample number i, for Task::sample_order.
  std::string Describe() const;

 private:
  ImageLoader(const ImageFile* file, ImageLoaderOptions options);
  absl::Status FillRow(int64_t row, int64_t sample_index, const ImageBatch& batch) const;

  const ImageFile* file_;
  ImageLoaderOptions options_;
  int64_t sample_count_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_LOADER_H_
