// Files that may be larger than memory, a block at a time.
#ifndef ANGEL_PTM_BASE_FILE_STREAM_H_
#define ANGEL_PTM_BASE_FILE_STREAM_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

inline constexpr int64_t kStreamBlockBytes = int64_t{1} << 20;

// The lines of a file, one after the other, in memory for a block and the longest line. `file` must outlive it.
class LineReader {
 public:
  explicit LineReader(const FileReader& file) : file_(file) {}

  // The next line; false at the end that the file had when it was opened. Errors: FileReader::ReadAt's.
  absl::StatusOr<bool> Next();
  // Without its newline; until the next call.
  std::string_view line() const { return line_; }
  // Whether a newline ends it: only the last line may have none.
  bool is_whole() const { return is_whole_; }
  // The byte behind it and its newline.
  int64_t end() const { return end_; }

 private:
  const FileReader& file_;
  std::string block_;  // the file's bytes up to read_
  size_t next_ = 0;    // in block_, where the next line begins
  int64_t read_ = 0, end_ = 0;
  std::string_view line_;
  bool is_whole_ = false;
};

// Appends all bytes of `from`.
absl::Status AppendFileTo(AtomicFile& to, const FileReader& from);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_STREAM_H_
