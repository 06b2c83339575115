// A file that grows by whole records, so that others can read it while the run writes.
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
  // Appends to what the file already has. Makes the directory if needed.
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

  // Failing to write a record is an error, but the record is kept and written with the next one that succeeds; until
  // then the file ends with the previous record. At most kWaitingBytesMax wait; beyond that the oldest are dropped, and
  // the error says so. If the file was removed, nobody would find the record: returns kNotFound and does not keep it.
  absl::Status Append(std::string_view record);
  static constexpr size_t kWaitingBytesMax = size_t{16} << 20;
  const std::string& path() const { return path_; }

 private:
  absl::Status Write(std::string_view record);

  AppendFile(int fd, int64_t bytes, std::string path) : fd_(fd), bytes_(bytes), path_(std::move(path)) {}

  int fd_;
  int64_t bytes_;  // whole records in the file
  std::string path_;
  std::deque<std::string> waiting_;  // records that could not be written yet
  size_t waiting_bytes_ = 0;
  int64_t dropped_ = 0;  // records
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_APPEND_FILE_H_
