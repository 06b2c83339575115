// Large files written front to back, for checkpoints and exports.
#ifndef ANGEL_PTM_CHECKPOINT_FILE_WRITER_H_
#define ANGEL_PTM_CHECKPOINT_FILE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Appends to a new file through one 4 MiB buffer. Whole buffers bypass the page cache (O_DIRECT) where the file system
// allows it: a checkpoint is not read again by this run, and filling the page cache with it was measured slower than
// writing around it. The file is removed by whoever owns its directory; this class only closes it.
class FileWriter {
 public:
  static constexpr int64_t kBufferBytes = int64_t{4} << 20;

  // Fails if `path` exists.
  static absl::StatusOr<FileWriter> Create(std::string path);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();

  absl::Status Append(std::span<const std::byte> bytes);
  absl::Status Append(std::string_view text) { return Append(std::as_bytes(std::span(text))); }
  // Writes what is buffered and waits until the file is on disk. The file is closed whatever the result.
  absl::Status Finish();
  int64_t bytes() const { return bytes_; }

 private:
  FileWriter(std::string path, int fd, bool direct);
  absl::Status WriteAll(const std::byte* data, int64_t n);

  struct FreeBuffer {
    void operator()(std::byte* p) const;
  };
  std::string path_;
  int fd_ = -1;
  bool direct_ = false;
  std::unique_ptr<std::byte[], FreeBuffer> buffer_;
  int64_t filled_ = 0, bytes_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_FILE_WRITER_H_
