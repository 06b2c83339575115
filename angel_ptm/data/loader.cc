#include "angel_ptm/data/loader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/permutation.h"

namespace angel_ptm {

Loader::Loader(const PackedDataset* dataset, const LoaderOptions& options)
    : dataset_(dataset), options_(options), sample_count_(dataset->window_count()) {
  if (options.evaluation_samples > 0) sample_count_ = std::min(sample_count_, options.evaluation_samples);
}

absl::StatusOr<Loader> Loader::Create(const PackedDataset* dataset, const LoaderOptions& options) {
  if (options.global_batch < 1 || options.micro_batch < 1 || options.evaluation_samples < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the global batch and the micro-batch should be at least 1 sample, evaluation samples at least 0; got ",
        options.global_batch, ", ", options.micro_batch, " and ", options.evaluation_samples));
  }
  return Loader(dataset, options);
}

int64_t Loader::MicroBatchesPerStep(int64_t world) const {
  const int64_t samples = world * options_.micro_batch;
  return (options_.global_batch + samples - 1) / samples;
}

int64_t Loader::WindowOfSample(int64_t sample_index) const {
  APTM_CHECK(sample_index >= 0, sample_index);
  const int64_t windows = dataset_->window_count();
  if (options_.evaluation_samples > 0) {
    return sample_index < sample_count_ ? Permutation(windows, 0, 0)(sample_index) : -1;
  }
  return Permutation(windows, options_.seed, sample_index / windows)(sample_index % windows);
}

absl::StatusOr<int64_t> Loader::FillSample(int64_t sample_index, const SampleBuffers& sample) const {
  const int64_t window = WindowOfSample(sample_index);
  if (window >= 0) return dataset_->FillWindow(window, sample);
  FillZeroWeightSample(sample);
  return 0;
}

absl::StatusOr<int64_t> Loader::FillMicroBatch(const MicroBatchPosition& position, const SampleBuffers& batch) const {
  const int64_t rows = options_.micro_batch, length = dataset_->sequence_length();
  APTM_CHECK(static_cast<int64_t>(batch.tokens.size()) == rows * length, batch.tokens.size(), " for ", rows, " x ",
             length);
  APTM_CHECK(position.rank >= 0 && position.rank < position.world && position.micro >= 0 && position.first_sample >= 0);
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_step = (position.micro * position.world + position.rank) * rows + row;
    const SampleBuffers sample = batch.Row(row, length);
    if (in_step < options_.global_batch) {
      ASSIGN_OR_RETURN(const int64_t counted, FillSample(position.first_sample + in_step, sample));
      count += counted;
    } else {
      FillZeroWeightSample(sample);
    }
  }
  return count;
}

int64_t TargetBytes(std::span<const int32_t> targets, std::span<const int32_t> token_byte_lengths) {
  int64_t bytes = 0;
  for (int32_t target : targets) {
    if (target != kIgnoredTarget) bytes += token_byte_lengths[target];
  }
  return bytes;
}

}  // namespace angel_ptm
