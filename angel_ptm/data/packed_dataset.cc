#include "angel_ptm/data/packed_dataset.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/tokenizer.h"

namespace angel_ptm {

absl::StatusOr<std::unique_ptr<PackedDataset>> PackedDataset::Open(const std::string& path, int64_t sequence_length) {
  if (sequence_length < 1) {
    return absl::InvalidArgumentError(absl::StrCat("the sequence length should be at least 1, got ", sequence_length));
  }
  ASSIGN_OR_RETURN(auto file, TokenFile::Open(path));
  if (file->token_count() <= sequence_length) {
    return absl::InvalidArgumentError(absl::StrCat("a sequence length of ", sequence_length,
                                                   " is longer than the data: one sample needs ", sequence_length + 1,
                                                   " tokens, but ", path, " holds ", file->token_count()));
  }
  return std::unique_ptr<PackedDataset>(new PackedDataset(std::move(file), sequence_length));
}

int64_t PackedDataset::FillWindow(int64_t window, const SampleBuffers& sample) const {
  const int64_t length = sequence_length_, first = window * length;
  APTM_CHECK(window >= 0 && window < window_count(), window, " of ", window_count());
  APTM_CHECK(static_cast<int64_t>(sample.tokens.size()) == length && sample.targets.size() == sample.tokens.size() &&
             sample.positions.size() == sample.tokens.size() && sample.segment_start.size() == sample.tokens.size());
  file_->Read(first, sample.tokens);
  file_->Read(first + 1, sample.targets);
  const std::span<const uint64_t> starts = file_->document_starts();
  // The first document that starts after the window's first token.
  auto next = std::upper_bound(starts.begin(), starts.end(), static_cast<uint64_t>(first));
  int64_t count = length;
  for (int64_t begin = 0; begin < length; ++next) {
    const int64_t end = std::min(length, static_cast<int64_t>(*next) - first);
    for (int64_t i = begin; i < end; ++i) {
      sample.positions[i] = static_cast<int32_t>(i - begin);
      sample.segment_start[i] = static_cast<int32_t>(begin);
    }
    if (static_cast<int64_t>(*next) <= first + length) {
      sample.targets[end - 1] = kIgnoredTarget;
      --count;
    }
    begin = end;
  }
  return count;
}

void FillZeroWeightSample(const SampleBuffers& sample) {
  std::fill(sample.tokens.begin(), sample.tokens.end(), kPadId);
  std::fill(sample.targets.begin(), sample.targets.end(), kIgnoredTarget);
  std::fill(sample.segment_start.begin(), sample.segment_start.end(), 0);
  for (size_t i = 0; i < sample.positions.size(); ++i) sample.positions[i] = static_cast<int32_t>(i);
}

}  // namespace angel_ptm
