// Which sample goes where. The order of samples is a pure function of (seed, sample index) and does not depend on the
// number of ranks, so a run can resume on another number of ranks without skipping or repeating samples.
#ifndef ANGEL_PTM_DATA_LOADER_H_
#define ANGEL_PTM_DATA_LOADER_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "angel_ptm/data/packed_dataset.h"

namespace angel_ptm {

struct LoaderOptions {
  int64_t global_batch = 1;  // samples per step, over all ranks and micro-batches
  int64_t micro_batch = 1;   // samples a rank computes at a time
  uint64_t seed = 0;
  // 0: training, epoch after epoch, each in its own order. n > 0: evaluation on n samples, always the same ones in the
  // same order, spread over the whole file; the seed is not used. n above the number of windows means all windows.
  int64_t evaluation_samples = 0;
};

// A micro-batch: number `micro` of rank `rank` in a world of `world` ranks, in the step that begins with sample
// `first_sample`.
struct MicroBatchPosition {
  int64_t first_sample = 0;
  int64_t micro = 0;
  int64_t rank = 0;
  int64_t world = 1;
};

// Immutable and small; thread-safe.
class Loader {
 public:
  // `dataset` must outlive the loader. Errors: batches below 1.
  static absl::StatusOr<Loader> Create(const PackedDataset* dataset, const LoaderOptions& options);

  // Micro-batches that each of `world` ranks computes per step: ceil(global_batch / (world * micro_batch)).
  int64_t MicroBatchesPerStep(int64_t world) const;

  // Fills [micro_batch, T]. A step has samples [first, first + G); row i of micro-batch m on rank r of w holds sample
  // first + (m*w + r)*b + i. Rows after the samples of the step (or of the evaluation) have no weight: all their
  // targets are ignored. Returns the number of targets that count. Errors: those of PackedDataset::FillWindow.
  // Allocates only for an error.
  absl::StatusOr<int64_t> FillMicroBatch(const MicroBatchPosition& position, const SampleBuffers& batch) const;

  // Fills sample number `sample_index` [T]. Returns and fails like FillMicroBatch.
  absl::StatusOr<int64_t> FillSample(int64_t sample_index, const SampleBuffers& sample) const;

  // The window of the file that is sample number `sample_index`; -1 after the samples of an evaluation.
  int64_t WindowOfSample(int64_t sample_index) const;

  // For evaluation, its samples and the steps that cover them; for training, the samples and steps (rounded up) of an
  // epoch.
  int64_t sample_count() const { return sample_count_; }
  int64_t step_count() const { return (sample_count_ + options_.global_batch - 1) / options_.global_batch; }

  const PackedDataset& dataset() const { return *dataset_; }
  const LoaderOptions& options() const { return options_; }

 private:
  Loader(const PackedDataset* dataset, const LoaderOptions& options);

  const PackedDataset* dataset_;
  LoaderOptions options_;
  int64_t sample_count_;
};

// Bytes of text that the counted targets stand for, by Tokenizer::TokenByteLengths(). Bits per byte are divided by
// this.
int64_t TargetBytes(std::span<const int32_t> targets, std::span<const int32_t> token_byte_lengths);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_LOADER_H_
