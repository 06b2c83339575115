// A file that grows by whole records, for readers beside the run.
#ifndef ANGEL_PTM_TRAIN_REPORT_APPEND_FILE_H_
#define ANGEL_PTM_TRAIN_REPORT_APPEND_FILE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Errors are those of angel_ptm/base/file.h.
class AppendFile {
 public:
  // Goes on behind what is there. Makes the directory if need be.
  static absl::StatusOr<AppendFile> Open(const std::string& path);
  AppendFile(AppendFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        bytes_(other.bytes_),
        path_(std::move(other.path_)),
        waiting_(std::move(other.waiting_)),
        waiting_bytes_(std::exchange(other.waiting_bytes_, 0)),
        dropped_(other.dropped_) {}
  AppendFile& operator=(AppendFile&&) = delete;
  ~AppendFile();

  // A record that cannot be written is an error, but it is kept and goes out with the next one that can; the file then
  // ends with the record before. No more than kWaitingBytesMax wait: the oldest are dropped, and the error says so. In
  // a file that was removed nobody would find it: kNotFound, and it is not kept.
  absl::Status Append(std::string_view record);
  static constexpr size_t kWaitingBytesMax = size_t{16} << 20;
  const std::string& path() const { return path_; }

 private:
  absl::Status Write(std::string_view record);

  AppendFile(int fd, int64_t bytes, std::string path) : fd_(fd), bytes_(bytes), path_(std::move(path)) {}

  int fd_;
  int64_t bytes_;  // of whole records
  std::string path_;
  std::deque<std::string> waiting_;  // records that found no room
  size_t waiting_bytes_ = 0;
  int64_t dropped_ = 0;  // records
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_APPEND_FILE_H_
