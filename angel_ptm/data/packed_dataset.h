// Fixed windows over a token file. Window w reads tokens [w*T, w*T + T]: T inputs and their T next tokens. So
// neighbouring windows share one token, and every token but the first is predicted once. The last tokens, if too few
// for a window, are left out.
#ifndef ANGEL_PTM_DATA_PACKED_DATASET_H_
#define ANGEL_PTM_DATA_PACKED_DATASET_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "angel_ptm/data/token_file.h"

namespace angel_ptm {

// The target of a position that does not count in the loss.
inline constexpr int32_t kIgnoredTarget = -1;

// Where samples are written: four int32 buffers of equal size, [T] for one sample or [b, T] for a micro-batch, owned by
// the caller.
struct SampleBuffers {
  std::span<int32_t> tokens;
  std::span<int32_t> targets;        // the next token; kIgnoredTarget where the next token starts another document
  std::span<int32_t> positions;      // i - segment_start[i]: restarts at 0 with each document and each row
  std::span<int32_t> segment_start;  // index in the row of the first token of this token's document in the row:
                                     // attention of query i may look at keys j with segment_start[i] <= j <= i

  // The buffers of row `row` when rows have `length` elements.
  SampleBuffers Row(int64_t row, int64_t length) const {
    return {tokens.subspan(row * length, length), targets.subspan(row * length, length),
            positions.subspan(row * length, length), segment_start.subspan(row * length, length)};
  }
};

// Immutable and thread-safe.
class PackedDataset {
 public:
  // Errors: those of TokenFile::Open; InvalidArgument if the file holds fewer than sequence_length + 1 tokens.
  static absl::StatusOr<std::unique_ptr<PackedDataset>> Open(const std::string& path, int64_t sequence_length);

  int64_t sequence_length() const { return sequence_length_; }
  int64_t window_count() const { return (file_->token_count() - 1) / sequence_length_; }
  const TokenFile& file() const { return *file_; }

  // Fills one sample [T] and returns how many of its targets count. Errors: those of TokenFile::Read. Allocates only
  // for an error.
  absl::StatusOr<int64_t> FillWindow(int64_t window, const SampleBuffers& sample) const;

 private:
  PackedDataset(std::unique_ptr<TokenFile> file, int64_t sequence_length)
      : file_(std::move(file)), sequence_length_(sequence_length) {}

  std::unique_ptr<TokenFile> file_;
  int64_t sequence_length_;
};

// Fills a sample without weight: pad tokens as one document, with all targets ignored.
void FillZeroWeightSample(const SampleBuffers& sample);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PACKED_DATASET_H_
