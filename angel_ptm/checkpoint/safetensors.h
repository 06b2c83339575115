// The safetensors container: 8 bytes little-endian header length, a JSON header (tensor name -> dtype, shape, byte
// range; "__metadata__" -> text map), then the tensors' bytes without gaps. Interoperable with the safetensors package.
// Readers treat a file as untrusted: whatever does not add up is one error, which names the file and what is wrong.
#ifndef ANGEL_PTM_CHECKPOINT_SAFETENSORS_H_
#define ANGEL_PTM_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/file_writer.h"

namespace angel_ptm {

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  int64_t offset = 0;  // bytes from the start of the file; set by readers, ignored by writers

  int64_t bytes() const { return shape.elements() * SizeOf(dtype); }
};

// Writes one file front to back: every tensor's bytes in the declared order, in pieces of any size.
class SafetensorsWriter {
 public:
  // Fails if `path` exists. Names must be unique and not "__metadata__" (checked).
  static absl::StatusOr<SafetensorsWriter> Create(std::string path, const std::vector<SafetensorsTensor>& tensors,
                                                  const SafetensorsMetadata& metadata);

  // Appends the next bytes of the current tensor, which is complete after exactly its bytes(); then the next one
  // begins.
  absl::Status Append(std::span<const std::byte> bytes);
  // Syncs and closes the file. Missing bytes are a bug and CHECKed.
  absl::Status Finish();

  int64_t file_bytes() const { return file_bytes_; }
  // XXH3-64 of everything before the first tensor's bytes.
  uint64_t header_checksum() const { return header_checksum_; }

 private:
  SafetensorsWriter(FileWriter file, int64_t file_bytes, uint64_t header_checksum)
      : file_(std::move(file)), file_bytes_(file_bytes), header_checksum_(header_checksum) {}
  FileWriter file_;
  int64_t file_bytes_ = 0;
  uint64_t header_checksum_ = 0;
};

// Writes `tensors`, whose bytes `append` gives front to back, and gives the file the name `path` when it is complete,
// replacing what is there. Until then the file is <path>.part; one that a dead process left is replaced, too.
// kFailedPrecondition if another process is writing the same path.
absl::Status WriteSafetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                              const SafetensorsMetadata& metadata,
                              const std::function<absl::Status(SafetensorsWriter&)>& append);
// The same for a file that several processes may make alike at the same time, such as an entry of a cache: each writes
// a file of its own, and the last one to get the name stays.
absl::Status WriteSharedSafetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                                    const SafetensorsMetadata& metadata,
                                    const std::function<absl::Status(SafetensorsWriter&)>& append);

// Writes all tensors and metadata of the files `parts` to one file, in the same way as WriteSafetensors. It is an error
// if two tensors have the same name.
absl::Status JoinSafetensors(const std::vector<std::string>& parts, const std::string& path);

// An opened, validated file. Thread-safe.
class SafetensorsReader {
 public:
  // Checks the header's length and syntax, dtypes, shapes, that the byte ranges tile the data without overlap or gap
  // and that the file ends where the last tensor does.
  static absl::StatusOr<SafetensorsReader> Open(std::string path);

  // In the order of their bytes in the file.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  // nullptr if there is none of this name.
  const SafetensorsTensor* Find(std::string_view name) const;
  // Reads bytes [begin, begin + out.size()) of the tensor, within which they must lie.
  absl::Status Read(const SafetensorsTensor& tensor, int64_t begin, std::span<std::byte> out) const;

  const std::string& path() const { return file_.path(); }
  int64_t file_bytes() const { return file_.size(); }
  uint64_t header_checksum() const { return header_checksum_; }

 private:
  explicit SafetensorsReader(FileReader file) : file_(std::move(file)) {}
  absl::Status ParseHeader(std::string_view header);

  FileReader file_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  SafetensorsMetadata metadata_;
  uint64_t header_checksum_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_SAFETENSORS_H_
