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

absl::StatusOr<int64_t> PackedDataset::FillWindow(int64_t window, const SampleBuffers& sample) const {
  const int64_t length = sequence_length_, first = window * length;
  APTM_CHECK(window >= 0 && window < window_count(), window, " of ", window_count());
  APTM_CHECK(static_cast<int64_t>(sample.tokens.size()) == length && sample.targets.size() == sample.tokens.size() &&
             sample.positions.size() == sample.tokens.size() && sample.segment_start.size() == sample.tokens.size());
  RETURN_IF_ERROR(file_->Read(first, sample.tokens));
  std::copy(sample.tokens.begin() + 1, sample.tokens.end(), sample.targets.begin());
  RETURN_IF_ERROR(file_->Read(first + length, sample.targets.last(1)));
  int64_t count = length;
  int32_t begin = 0;  // start in the row of the current token's document
  for (int32_t i = 0; i < length; ++i) {
    sample.positions[i] = i - begin;
    sample.segment_start[i] = begin;
    // The end-of-text token ends every document and occurs nowhere else; what follows belongs to another document.
    if (sample.tokens[i] != file_->end_of_text_id()) continue;
    sample.targets[i] = kIgnoredTarget;
    --count;
    begin = i + 1;
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
