// A file of bytes with a header page and a checksum per 1 MiB. No byte is used before its chunk has been checked:
//
//   0      8  magic             8  4  version        12  4  bytes per chunk, 1048576
//   16     8  C, offset of the checksums             24  8  checksum of the checksums
//   32     8  size of the file                       64     the format's own header, then zeros
//   4088   8  checksum of bytes 0 to 4087            4096   content, then at C a checksum per chunk of it
//
// Little-endian; checksums are XXH64.
#ifndef ANGEL_PTM_DATA_IMAGES_CHECKED_FILE_H_
#define ANGEL_PTM_DATA_IMAGES_CHECKED_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {

struct CheckedFileKind {
  std::array<char, 8> magic;
  uint32_t version;    // the only version that is read
  const char* name;    // "image file"
  const char* remedy;  // "prepare the images again"
};

inline constexpr int64_t kOwnHeaderBytes = 256;

class CheckedFileWriter {
 public:
  static absl::StatusOr<CheckedFileWriter> Create(const std::string& path, const CheckedFileKind& kind);

  absl::Status Append(std::span<const std::byte> bytes);
  // Writes checksums and header, and syncs. The file keeps its temporary name until Commit. `own_header` has at most
  // kOwnHeaderBytes.
  absl::Status Finish(std::span<const std::byte> own_header);
  absl::Status Commit() { return file_.Commit(); }

  int64_t content_bytes() const { return content_bytes_; }
  // The checksum of the header, which covers the other checksums and so identifies the whole file. Valid after Finish.
  uint64_t header_xxh64() const { return header_xxh64_; }
  const std::string& path() const { return file_.path(); }

 private:
  CheckedFileWriter(AtomicFile file, const CheckedFileKind& kind);
  absl::Status FlushChunk();

  AtomicFile file_;
  CheckedFileKind kind_;
  int64_t content_bytes_ = 0;
  uint64_t header_xxh64_ = 0;
  std::vector<uint64_t> checksums_;
  std::vector<std::byte> chunk_;
};

struct CheckedFileOptions {
  int64_t checked_at_open_bytes_max = int64_t{256} << 20;  // larger files are checked while they are read
};

// A file open for reading. Thread-safe; reads are serialised. A later change of the file is noticed by its modification
// time and checked again. Nothing is mapped, so truncating the file causes an error and not a signal.
class CheckedFile {
 public:
  // Checks size, header and the table of checksums, and of a small file everything. Keeps one chunk and 8 bytes per
  // chunk in memory. Returns DataLoss for a truncated or altered file, InvalidArgument for another format or version.
  static absl::StatusOr<std::unique_ptr<CheckedFile>> Open(const std::string& path, const CheckedFileKind& kind,
                                                           const CheckedFileOptions& options);
  CheckedFile(const CheckedFile&) = delete;
  CheckedFile& operator=(const CheckedFile&) = delete;

  std::span<const std::byte> own_header() const { return own_header_; }
  int64_t content_bytes() const { return content_bytes_; }
  uint64_t header_xxh64() const { return header_xxh64_; }
  const std::string& path() const { return file_.path(); }
  const CheckedFileKind& kind() const { return kind_; }
  bool checked_at_open() const { return checked_at_open_; }

  // Reads content from `offset`; the range must exist. Allocates only for an error.
  absl::Status Read(int64_t offset, std::span<std::byte> out) const;

  // An error: what the checksums cover was not written by this program. `what` says how this shows.
  absl::Status NotWritten(const std::string& what) const;

 private:
  CheckedFile(FileReader file, const CheckedFileKind& kind) : file_(std::move(file)), kind_(kind) {}
  absl::Status ReadHeader();
  absl::Status ReadChecksums(int64_t offset, uint64_t expected);
  absl::Status NoticeChange() const;
  // Fills `out` from byte `from` of a chunk, after checking the chunk if that has not been done.
  absl::Status ReadChunk(int64_t chunk, int64_t from, std::span<std::byte> out) const;
  std::string Name() const;

  FileReader file_;
  CheckedFileKind kind_;
  int64_t content_bytes_ = 0;
  uint64_t header_xxh64_ = 0;
  bool checked_at_open_ = false;
  std::array<std::byte, kOwnHeaderBytes> own_header_{};
  std::vector<uint64_t> checksums_;

  mutable std::mutex mutex_;  // guards the members below
  mutable FileStamp stamp_;
  mutable bool changed_ = false;
  mutable std::vector<bool> verified_;  // by chunk, since the last change
  mutable std::vector<std::byte> buffer_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_CHECKED_FILE_H_
