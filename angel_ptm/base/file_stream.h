// Reads files that may be larger than memory, one block at a time.
#ifndef ANGEL_PTM_BASE_FILE_STREAM_H_
#define ANGEL_PTM_BASE_FILE_STREAM_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

inline constexpr int64_t kStreamBlockBytes = int64_t{1} << 20;

// Iterates over the lines of a file, using memory for one block and the longest line. `file` must outlive the reader.
class LineReader {
 public:
  explicit LineReader(const FileReader& file) : file_(file) {}

  // Advances to the next line; false at the end of the file as it was when opened. Errors: those of FileReader::ReadAt.
  absl::StatusOr<bool> Next();
  // The current line without its newline; valid until the next call of Next.
  std::string_view line() const { return line_; }
  // Whether the line ends in a newline; only the last line may lack one.
  bool is_whole() const { return is_whole_; }
  // Offset in the file just past the line and its newline.
  int64_t end() const { return end_; }

 private:
  const FileReader& file_;
  std::string block_;  // the file's bytes up to read_
  size_t next_ = 0;    // offset in block_ of the next line
  int64_t read_ = 0, end_ = 0;
  std::string_view line_;
  bool is_whole_ = false;
};

// Appends all bytes of `from` to `to`.
absl::Status AppendFileTo(AtomicFile& to, const FileReader& from);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_FILE_STREAM_H_
