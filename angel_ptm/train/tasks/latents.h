// Images that were encoded elsewhere: an autoencoder's latents with the states of two text encoders, and the order that
// decides which of them is sample number i.
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

// Buffers for one sample. None is empty, except `sizes` and `condition` for a model without them, and `latent` if only
// the conditions are read.
struct LatentSample {
  std::span<float> latent;      // [channels, height, width]
  std::span<float> condition;   // the same shape
  std::span<float> clip;        // [clip_length, clip_hidden_size]
  std::span<float> t5;          // [t5_length, t5_hidden_size]
  std::span<int32_t> keep;      // [text_length]: 0 for padding of a text; CLIP's text first
  std::span<float> sizes;       // [kHunyuanSizes]
  std::span<BFloat16> scratch;  // scratch_elements() elements
};

// A safetensors file with the following tensors for N samples of a model's shape (F32 or BF16, masks I32):
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
  // Errors: a missing file or tensor; a shape or type other than the model's; latents that are not scaled.
  static absl::StatusOr<std::unique_ptr<LatentFile>> Open(const std::string& path, const HunyuanDitShape& shape);
  // The same without latents, which may be missing: texts and conditions to sample with. If there are no sizes, or
  // those of latents of another size, every sample is a whole image of the shape's size, with 8 pixels per latent
  // element and side, as diffusers' pipeline samples.
  static absl::StatusOr<std::unique_ptr<LatentFile>> OpenTexts(const std::string& path, const HunyuanDitShape& shape);

  int64_t count() const { return count_; }
  int64_t scratch_elements() const { return scratch_elements_; }
  // Either text may be replaced by the empty caption's. Allocates only for an error.
  absl::Status Read(int64_t index, bool empty_clip, bool empty_t5, const LatentSample& sample) const;
  // Digest of the file's header, its size, and some of its latents and conditions, including the first and the last.
  uint64_t digest() const { return digest_; }
  const std::string& path() const { return file_.path(); }

 private:
  LatentFile(SafetensorsReader file, const HunyuanDitShape& shape) : file_(std::move(file)), shape_(shape) {}
  absl::Status CheckConditions(bool sizes_needed);
  absl::Status LookAtLatents();  // checks their scale and makes the digest
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
  int64_t evaluation_samples = 0;  // 0: training, epoch after epoch; else always the same samples in the same order
};

// Decides which of several files ("buckets", one per size of latents) a step's samples come from. In an epoch every
// bucket has as many steps as its samples need; the last of these is filled up with samples of the bucket's next epoch.
// The order of steps is a function of (seed, epoch). Steps begin at multiples of the global batch.
class BucketOrder {
 public:
  // `counts`: the number of samples of each bucket, at least 1.
  BucketOrder(std::vector<int64_t> counts, int64_t global_batch, uint64_t seed);

  struct Step {
    int64_t bucket = 0;
    int64_t first = 0;  // the step's first sample, numbered within the bucket
  };
  // The step that contains sample number `sample` of the run.
  Step At(int64_t sample) const;

 private:
  const int64_t global_batch_;
  const uint64_t seed_;
  std::vector<int64_t> ends_;  // by bucket: number of an epoch's steps up to its last one, buckets in order
};

// Which latent is sample number i: a function of (file, order, i).
class LatentSource final : public SampleSource {
 public:
  // `file` and `buckets` must outlive it. `buckets` is null if there is only one.
  LatentSource(const LatentFile& file, const LatentOrder& order, const BucketOrder* buckets = nullptr)
      : file_(file), order_(order), buckets_(buckets) {}
  int64_t sample_count() const override;
  int64_t step_count() const override { return (sample_count() + order_.global_batch - 1) / order_.global_batch; }
  int64_t samples_per_step() const override { return order_.global_batch; }
  int64_t MicroBatchesPerStep(int64_t world) const override;

  const LatentFile& file() const { return file_; }
  const LatentOrder& order() const { return order_; }
  bool evaluation() const { return order_.evaluation_samples > 0; }
  // The number of the sample in row `row` of a micro-batch; -1 for a row without weight.
  int64_t SampleAt(const MicroBatchPosition& position, int64_t row) const;
  // Its index in the file.
  int64_t IndexOf(int64_t sample) const;

 private:
  const LatentFile& file_;
  const LatentOrder order_;
  const BucketOrder* const buckets_;
};

// The inputs of a graph of model.hunyuan_dit that follow from samples and times: buffers for B rows, made once.
class HunyuanInputs {
 public:
  HunyuanInputs(const HunyuanDitShape& shape, int64_t batch, int64_t scratch_elements);
  // Buffers to read row `row` into. All rows share latent().
  LatentSample Row(int64_t row);
  std::span<float> latent() { return latent_; }
  // Completes a row after it was read, including its condition, for the given time of its noise.
  void Finish(int64_t row, double time);
  // Changes the time of a completed row.
  void SetTime(int64_t row, double time);
  // Makes the row zeros, all padding.
  void Clear(int64_t row);
  // Writes all inputs but "noisy", "control_scale" and those of the loss into the executor that is bound to `graph`.
  void Write(const Graph& graph, Executor& executor) const;

 private:
  const HunyuanDitShape shape_;
  const int64_t batch_;
  std::vector<float> latent_, clip_, t5_, sizes_, size_features_, time_features_, cos_sin_;
  std::vector<float> condition_, condition_patches_;  // of one row; of all rows
  std::vector<int32_t> keep_, text_rows_, style_;
  std::vector<BFloat16> scratch_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_LATENTS_H_
