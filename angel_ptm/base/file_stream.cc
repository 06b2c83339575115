#include "angel_ptm/base/file_stream.h"

#include <algorithm>
#include <span>
#include <vector>

namespace angel_ptm {

absl::StatusOr<bool> LineReader::Next() {
  size_t newline = block_.find('\n', next_);
  while (newline == std::string::npos && read_ < file_.size()) {
    block_.erase(0, next_);
    next_ = 0;
    const size_t known = block_.size();
    const int64_t more = std::min(kStreamBlockBytes, file_.size() - read_);
    block_.resize(known + static_cast<size_t>(more));
    RETURN_IF_ERROR(file_.ReadAt(read_, std::as_writable_bytes(std::span(block_).subspan(known))));
    read_ += more;
    newline = block_.find('\n', known);
  }
  is_whole_ = newline != std::string::npos;
  const size_t line_end = is_whole_ ? newline : block_.size();
  line_ = std::string_view(block_).substr(next_, line_end - next_);
  const bool some = is_whole_ || !line_.empty();
  next_ = line_end + (is_whole_ ? 1 : 0);
  end_ = read_ - static_cast<int64_t>(block_.size() - next_);
  return some;
}

absl::Status AppendFileTo(AtomicFile& to, const FileReader& from) {
  std::vector<std::byte> block(static_cast<size_t>(std::min(kStreamBlockBytes, from.size())));
  for (int64_t at = 0; at < from.size(); at += static_cast<int64_t>(block.size())) {
    block.resize(static_cast<size_t>(std::min(kStreamBlockBytes, from.size() - at)));
    RETURN_IF_ERROR(from.ReadAt(at, block));
    RETURN_IF_ERROR(to.Append(block.data(), static_cast<int64_t>(block.size())));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
