// Images that were encoded elsewhere: latents of an autoencoder with the states of two text encoders, and which of them
// is sample number i.
#ifndef ANGEL_PTM_TRAIN_TASKS_LATENTS_H_
#define ANGEL_PTM_TRAIN_TASKS_LATENTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/model/hunyuan_dit.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// Buffers for one sample; none is empty but `sizes` and `condition` of a model without them, and `latent` where only
// what it is conditioned on is read.
struct LatentSample {
  std::span<float> latent;      // [channels, height, width]
  std::span<float> condition;   // the same
  std::span<float> clip;        // [clip_length, clip_hidden_size]
  std::span<float> t5;          // [t5_length, t5_hidden_size]
  std::span<int32_t> keep;      // [text_length]: 0 where a text is padding, CLIP's first
  std::span<float> sizes;       // [kHunyuanSizes]
  std::span<BFloat16> scratch;  // of scratch_elements()
};

// A safetensors file with, for N samples of a model's shape (F32 or BF16, masks I32):
//   latents [N, channels, height, width], scaled to a mean square of about 1
//   clip [N, clip_length, clip_hidden_size], clip_mask [N, clip_length], t5 and t5_mask likewise
//   empty_clip [clip_length, clip_hidden_size], empty_clip_mask [clip_length], empty_t5, empty_t5_mask: the empty
//   caption
//   sizes [N, 6] if the model reads sizes: height and width of the image, target height and width, top and left of the
//   crop; the style is 0
//   condition [N, channels, height, width] if the model has a branch: the image of a pose or of edges, encoded and
//   scaled as the latents are
class LatentFile {
 public:
  // Errors: a missing file or tensor, another shape or type than the model's, latents that are not scaled.
  static absl::StatusOr<std::unique_ptr<LatentFile>> Open(const std::string& path, const HunyuanDitShape& shape);
  // The same without its latents, which may be missing: texts and conditions to sample with. Without sizes, and with
  // those of latents of another size, every sample is a whole image of the shape's size, of 8 pixels a latent, as
  // diffusers' pipeline samples.
  static absl::StatusOr<std::unique_ptr<LatentFile>> OpenTexts(const std::string& path, const HunyuanDitShape& shape);

  int64_t count() const { return count_; }
  int64_t scratch_elements() const { return scratch_elements_; }
  // Text streams may be those of the empty caption instead. Allocates only for an error.
  absl::Status Read(int64_t index, bool empty_clip, bool empty_t5, const LatentSample& sample) const;
  // Of the file's header, its size and some of its latents and conditions, the first and the last among them.
  uint64_t digest() const { return digest_; }
  const std::string& path() const { return file_.path(); }

 private:
  LatentFile(SafetensorsReader file, const HunyuanDitShape& shape) : file_(std::move(file)), shape_(shape) {}
  absl::Status CheckTensor(const std::string& name, DType dtype, Shape shape);
  absl::Status CheckCount(const std::string& tensor, const Shape& sample);
  absl::Status CheckConditions(bool sizes_needed);
  absl::Status CheckScale();  // makes the digest, too
  absl::Status ReadFloats(const char* name, int64_t row, std::span<float> out, std::span<BFloat16> scratch) const;
  absl::Status ReadMask(const char* name, int64_t row, std::span<int32_t> out) const;

  const SafetensorsReader file_;
  const HunyuanDitShape shape_;
  int64_t count_ = 0, scratch_elements_ = 0;
  bool has_sizes_ = false;  // of samples of the shape
  uint64_t digest_ = 0;
};

struct LatentOrder {
  int64_t global_batch = 1, micro_batch = 1;
  uint64_t seed = 0;
  int64_t evaluation_samples = 0;  // 0: training, epoch after epoch; else always the same ones in the same order
};

// Which of several files ("buckets", a size of latents each) a step's samples are of: in an epoch every bucket has as
// many steps as its samples fill, the last of them with some of its next epoch, in an order that is a function of
// (seed, epoch). Steps begin at multiples of the global batch.
class BucketOrder {
 public:
  // `counts`: of the buckets' samples, each at least 1.
  BucketOrder(std::vector<int64_t> counts, int64_t global_batch, uint64_t seed);

  struct Step {
    int64_t bucket = 0;
    int64_t first = 0;  // of its samples: the number among the bucket's own
  };
  // The step that sample number `sample` of the run is in.
  Step At(int64_t sample) const;

 private:
  const int64_t global_batch_;
  const uint64_t seed_;
  std::vector<int64_t> ends_;  // by bucket: steps of an epoch up to its last, buckets in order
};

// Which latent is sample number i: a function of (file, order, i).
class LatentSource final : public SampleSource {
 public:
  // `file` must outlive it, and so must `buckets`: null if there is one.
  LatentSource(const LatentFile& file, const LatentOrder& order, const BucketOrder* buckets = nullptr)
      : file_(file), order_(order), buckets_(buckets) {}
  int64_t sample_count() const override;
  int64_t step_count() const override { return (sample_count() + order_.global_batch - 1) / order_.global_batch; }
  int64_t samples_per_step() const override { return order_.global_batch; }
  int64_t MicroBatchesPerStep(int64_t world) const override;

  const LatentFile& file() const { return file_; }
  const LatentOrder& order() const { return order_; }
  bool evaluation() const { return order_.evaluation_samples > 0; }
  // The sample in row `row` of a micro-batch; -1: a row without weight.
  int64_t SampleAt(const MicroBatchPosition& position, int64_t row) const;
  // Its place in the file.
  int64_t IndexOf(int64_t sample) const;

 private:
  const LatentFile& file_;
  const LatentOrder order_;
  const BucketOrder* const buckets_;
};

// What a graph of model.hunyuan_dit reads of samples, beside noise and times: buffers for B rows, made once.
class HunyuanInputs {
 public:
  HunyuanInputs(const HunyuanDitShape& shape, int64_t batch, int64_t scratch_elements);
  // Where row `row` is read to: its latent is of latent().
  LatentSample Row(int64_t row);
  std::span<float> latent() { return latent_; }
  // What follows from a row that was read, its condition among it, and the time of its noise.
  void Finish(int64_t row, double time);
  // Another time for a row that is finished.
  void SetTime(int64_t row, double time);
  // A row of zeros, all padding.
  void Clear(int64_t row);
  // All inputs but "noisy" and those of the loss, into the executor that is bound to `graph`.
  void Write(const Graph& graph, Executor& executor) const;

 private:
  const HunyuanDitShape shape_;
  const int64_t batch_;
  std::vector<float> latent_, clip_, t5_, sizes_, size_features_, time_features_, cos_sin_;
  std::vector<float> condition_, condition_patches_;  // of a row, of all
  std::vector<int32_t> keep_, text_rows_, style_;
  std::vector<BFloat16> scratch_;
};

// Writes latents [samples.size(), channels, height, width] as tensor "latents", scaled as the model's data
// was, and `samples` [n] I32 as "samples". What stands there is replaced.
absl::Status WriteLatents(const std::string& path, const HunyuanDitShape& shape, std::span<const int32_t> samples,
                          std::span<const float> latents, const SafetensorsMetadata& metadata);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_LATENTS_H_
