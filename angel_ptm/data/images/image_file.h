// Images of one size with captions in one checksummed file. FORMAT.md describes it byte by byte.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_FILE_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_FILE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/checked_file.h"
#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

inline constexpr uint32_t kImageFileVersion = 1;
inline constexpr int32_t kImageSideMax = 16384;
inline constexpr int32_t kImageLanguagesMax = 16;

struct ImageFileShape {
  int32_t channels = 0;         // 1 or 3
  int32_t height = 0;           // 1 to kImageSideMax
  int32_t width = 0;            // the same
  int32_t languages = 0;        // 1 to kImageLanguagesMax
  int32_t vocabulary_size = 0;  // upper bound of tokens, exclusive
  int32_t classes = 0;          // class_id is -1 or below this
  int32_t styles = 1;           // style_id is below this
  uint64_t tokenizer_xxh64 = 0;

  int64_t pixel_bytes() const { return int64_t{channels} * height * width; }
  friend bool operator==(const ImageFileShape&, const ImageFileShape&) = default;
};

// A caption as it is stored: its text and its tokens, without padding or end-of-text tokens.
struct StoredCaption {
  std::string text;
  std::vector<int32_t> tokens;
};

struct ImageLabels {
  int32_t class_id = -1;  // -1: none
  int32_t style_id = 0;   // drawing style, an index into the manifest's styles
};

struct StoredImage {
  Image image;
  ImageLabels labels;
  std::vector<std::vector<StoredCaption>> captions;  // by language; at least one caption in one language
};

class ImageFileWriter {
 public:
  static absl::StatusOr<ImageFileWriter> Create(const std::string& path, const ImageFileShape& shape);

  // The image must have the file's shape, and the captions' tokens must be below the vocabulary size.
  absl::Status Append(const StoredImage& image);
  // Writes the index, checksums and header, and syncs. The file keeps its temporary name until Commit.
  absl::Status Finish();
  absl::Status Commit() { return file_.Commit(); }

  int64_t count() const { return static_cast<int64_t>(ends_.size()); }
  // Identifies the whole file. Valid after Finish.
  uint64_t header_xxh64() const { return file_.header_xxh64(); }

 private:
  ImageFileWriter(CheckedFileWriter file, const ImageFileShape& shape) : file_(std::move(file)), shape_(shape) {}

  CheckedFileWriter file_;
  ImageFileShape shape_;
  std::vector<uint64_t> ends_;  // end of each image's bytes, pixels and record
};

// Identifies a caption of an image.
struct CaptionKey {
  int64_t image = 0;
  int32_t language = 0;
  int32_t which = 0;  // 0 is the image's name, or its only caption
};

// A part of an image.
struct ImageCut {
  int32_t top = 0, left = 0, height = 0, width = 0;
  bool flipped = false;  // mirrored left to right, after cutting
};

// An image file open for reading. Thread-safe; reads are serialised. Checked as described in checked_file.h. Keeps 8
// bytes per image and room for one image in memory.
class ImageFile {
 public:
  static absl::StatusOr<std::unique_ptr<ImageFile>> Open(const std::string& path,
                                                         const CheckedFileOptions& options = {});

  int64_t count() const { return static_cast<int64_t>(ends_.size()); }
  const ImageFileShape& shape() const { return shape_; }
  uint64_t header_xxh64() const { return file_->header_xxh64(); }
  const std::string& path() const { return file_->path(); }

  // The functions below allocate only for an error: the file was truncated, changed or cannot be read. Numbers must be
  // in range.

  // Reads the cut as planes [channels, cut.height, cut.width] with values in -1..1.
  absl::Status ReadPlanes(int64_t image, const ImageCut& cut, std::span<float> planes) const;
  // `pixels`: [height, width, channels].
  absl::Status ReadPixels(int64_t image, std::span<uint8_t> pixels) const;
  absl::StatusOr<ImageLabels> ReadLabels(int64_t image) const;
  // The number of captions in one language; may be 0.
  absl::StatusOr<int32_t> CaptionCount(int64_t image, int32_t language) const;
  // Fills `tokens` with the caption's first tokens and then with `pad`. Returns the caption's own length; if that
  // exceeds tokens.size(), the caption was cut. The caption must exist.
  absl::StatusOr<int32_t> ReadTokens(const CaptionKey& key, int32_t pad, std::span<int32_t> tokens) const;

  // Allocates its result.
  absl::StatusOr<std::string> ReadCaption(const CaptionKey& key) const;

 private:
  struct Caption {
    std::span<const std::byte> tokens;  // 4 bytes each
    std::span<const std::byte> text;
  };
  explicit ImageFile(std::unique_ptr<CheckedFile> file) : file_(std::move(file)) {}
  absl::Status ReadShape(int64_t* count);
  absl::Status ReadIndex(int64_t count);
  absl::Status CheckRecord(int64_t image) const;
  int64_t RecordBegin(int64_t image) const;
  // Reads what follows an image's pixels into record_; mutex_ must be held.
  absl::StatusOr<std::span<const std::byte>> ReadRecord(int64_t image) const;
  absl::StatusOr<ImageLabels> LabelsIn(std::span<const std::byte> record) const;
  absl::StatusOr<int32_t> CountIn(std::span<const std::byte> record, int32_t language) const;
  // Reads the caption at `*at` and moves `*at` past it; returns false if the record ends first.
  static bool NextCaption(std::span<const std::byte> record, size_t* at, Caption* caption);
  // Finds the key's caption in the record of its image.
  absl::StatusOr<Caption> FindCaption(const CaptionKey& key, std::span<const std::byte> record) const;
  absl::Status WrongRecord(int64_t image) const;

  std::unique_ptr<CheckedFile> file_;
  ImageFileShape shape_;
  std::vector<uint64_t> ends_;

  mutable std::mutex mutex_;  // guards the members below
  mutable std::vector<std::byte> record_;
  mutable std::vector<std::byte> pixels_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_FILE_H_
