#include "angel_ptm/data/images/image_file.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

constexpr CheckedFileKind kKind = {.magic = {'A', 'P', 'T', 'M', 'I', 'M', 'G', 'S'},
                                   .version = kImageFileVersion,
                                   .name = "image file",
                                   .remedy = "prepare the images again"};

struct OwnHeader {
  uint64_t count;
  uint64_t index_offset;  // in the content
  uint64_t tokenizer_xxh64;
  uint32_t channels;
  uint32_t height;
  uint32_t width;
  uint32_t languages;
  uint32_t vocabulary_size;
  uint32_t classes;
  uint32_t styles;
  uint32_t zero;
};
static_assert(sizeof(OwnHeader) == 56);

// A record: class and style; the number of captions by language; for each caption the number of tokens, the number of
// bytes of its text, the tokens, and the text.
constexpr size_t kLabelsBytes = 8, kCaptionBytes = 8;

void Put(const void* data, size_t bytes, std::vector<std::byte>* record) {
  const std::byte* p = static_cast<const std::byte*>(data);
  record->insert(record->end(), p, p + bytes);
}
void Put32(int64_t value, std::vector<std::byte>* record) {
  const uint32_t bits = static_cast<uint32_t>(value);
  Put(&bits, sizeof(bits), record);
}

uint32_t Get32(std::span<const std::byte> record, size_t at) {
  uint32_t value;
  std::memcpy(&value, record.data() + at, sizeof(value));
  return value;
}

}  // namespace

absl::StatusOr<ImageFileWriter> ImageFileWriter::Create(const std::string& path, const ImageFileShape& shape) {
  ASSIGN_OR_RETURN(CheckedFileWriter file, CheckedFileWriter::Create(path, kKind));
  return ImageFileWriter(std::move(file), shape);
}

absl::Status ImageFileWriter::Append(const StoredImage& image) {
  APTM_CHECK(static_cast<int64_t>(image.image.pixels.size()) == shape_.pixel_bytes(), image.image.pixels.size());
  APTM_CHECK(static_cast<int32_t>(image.captions.size()) == shape_.languages, image.captions.size());
  APTM_CHECK(image.labels.class_id >= -1 && image.labels.class_id < shape_.classes, image.labels.class_id);
  APTM_CHECK(image.labels.style_id >= 0 && image.labels.style_id < shape_.styles, image.labels.style_id);
  std::vector<std::byte> record;
  Put32(image.labels.class_id, &record);
  Put32(image.labels.style_id, &record);
  for (const auto& captions : image.captions) Put32(static_cast<int64_t>(captions.size()), &record);
  for (const auto& captions : image.captions) {
    for (const StoredCaption& caption : captions) {
      Put32(static_cast<int64_t>(caption.tokens.size()), &record);
      Put32(static_cast<int64_t>(caption.text.size()), &record);
      for (const int32_t token : caption.tokens) APTM_CHECK(token >= 0 && token < shape_.vocabulary_size, token);
      Put(caption.tokens.data(), caption.tokens.size() * sizeof(int32_t), &record);
      Put(caption.text.data(), caption.text.size(), &record);
    }
  }
  RETURN_IF_ERROR(file_.Append(std::as_bytes(std::span(image.image.pixels))));
  RETURN_IF_ERROR(file_.Append(record));
  ends_.push_back(static_cast<uint64_t>(file_.content_bytes()));
  return absl::OkStatus();
}

absl::Status ImageFileWriter::Finish() {
  const OwnHeader header = {.count = ends_.size(),
                            .index_offset = static_cast<uint64_t>(file_.content_bytes()),
                            .tokenizer_xxh64 = shape_.tokenizer_xxh64,
                            .channels = static_cast<uint32_t>(shape_.channels),
                            .height = static_cast<uint32_t>(shape_.height),
                            .width = static_cast<uint32_t>(shape_.width),
                            .languages = static_cast<uint32_t>(shape_.languages),
                            .vocabulary_size = static_cast<uint32_t>(shape_.vocabulary_size),
                            .classes = static_cast<uint32_t>(shape_.classes),
                            .styles = static_cast<uint32_t>(shape_.styles),
                            .zero = 0};
  RETURN_IF_ERROR(file_.Append(std::as_bytes(std::span(ends_))));
  return file_.Finish(std::as_bytes(std::span(&header, 1)));
}

absl::StatusOr<std::unique_ptr<ImageFile>> ImageFile::Open(const std::string& path, const CheckedFileOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<CheckedFile> checked, CheckedFile::Open(path, kKind, options));
  auto file = std::unique_ptr<ImageFile>(new ImageFile(std::move(checked)));
  int64_t count = 0;
  RETURN_IF_ERROR(file->ReadShape(&count));
  RETURN_IF_ERROR(file->ReadIndex(count));
  for (int64_t image = 0; file->file_->checked_at_open() && image < count; ++image) {
    RETURN_IF_ERROR(file->CheckRecord(image));
  }
  return file;
}

// The header's checksum does not prove that its numbers are consistent, since whoever changes them can recompute it.
absl::Status ImageFile::ReadShape(int64_t* count) {
  OwnHeader header;
  std::memcpy(&header, file_->own_header().data(), sizeof(header));
  const auto within = [](uint32_t value, int64_t least, int64_t most) { return value >= least && value <= most; };
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if ((header.channels != 1 && header.channels != 3) || !within(header.height, 1, kImageSideMax) ||
      !within(header.width, 1, kImageSideMax) || !within(header.languages, 1, kImageLanguagesMax) ||
      !within(header.vocabulary_size, 1, kMost) || !within(header.classes, 0, kMost) ||
      !within(header.styles, 1, kMost)) {
    return file_->NotWritten(absl::StrCat("its images have ", header.channels, " channels of ", header.height, " x ",
                                          header.width, ", ", header.languages, " languages, a vocabulary of ",
                                          header.vocabulary_size, ", ", header.classes, " classes and ", header.styles,
                                          " styles"));
  }
  shape_ = {.channels = static_cast<int32_t>(header.channels),
            .height = static_cast<int32_t>(header.height),
            .width = static_cast<int32_t>(header.width),
            .languages = static_cast<int32_t>(header.languages),
            .vocabulary_size = static_cast<int32_t>(header.vocabulary_size),
            .classes = static_cast<int32_t>(header.classes),
            .styles = static_cast<int32_t>(header.styles),
            .tokenizer_xxh64 = header.tokenizer_xxh64};
  const uint64_t content = static_cast<uint64_t>(file_->content_bytes());
  if (header.count > content / sizeof(uint64_t) || header.index_offset != content - header.count * sizeof(uint64_t)) {
    return file_->NotWritten(absl::StrCat("the index of its ", header.count, " images stands at byte ",
                                          header.index_offset, " of ", content));
  }
  *count = static_cast<int64_t>(header.count);
  return absl::OkStatus();
}

absl::Status ImageFile::ReadIndex(int64_t count) {
  ends_.resize(static_cast<size_t>(count));
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(ends_));
  const int64_t index = file_->content_bytes() - static_cast<int64_t>(bytes.size());
  RETURN_IF_ERROR(file_->Read(index, bytes));
  const uint64_t least = static_cast<uint64_t>(shape_.pixel_bytes()) + kLabelsBytes +
                         sizeof(uint32_t) * static_cast<uint64_t>(shape_.languages);
  uint64_t before = 0, largest = 0;
  for (int64_t image = 0; image < count; ++image) {
    const uint64_t end = ends_[static_cast<size_t>(image)];
    if (end > static_cast<uint64_t>(index) || end < before || end - before < least) {
      return file_->NotWritten(absl::StrCat("image ", image, " should have at least ", least, " bytes from byte ",
                                            before, " on, it ends at ", end, " of ", index));
    }
    largest = std::max(largest, end - before);
    before = end;
  }
  if (before != static_cast<uint64_t>(index)) {
    return file_->NotWritten(absl::StrCat("its images should end at byte ", index, ", got ", before));
  }
  pixels_.resize(static_cast<size_t>(count > 0 ? shape_.pixel_bytes() : 0));
  record_.resize(static_cast<size_t>(largest) - pixels_.size());
  return absl::OkStatus();
}

int64_t ImageFile::RecordBegin(int64_t image) const {
  APTM_CHECK(image >= 0 && image < count(), image, " of ", count());
  return (image == 0 ? 0 : static_cast<int64_t>(ends_[static_cast<size_t>(image - 1)])) + shape_.pixel_bytes();
}

absl::StatusOr<std::span<const std::byte>> ImageFile::ReadRecord(int64_t image) const {
  const int64_t begin = RecordBegin(image), bytes = static_cast<int64_t>(ends_[static_cast<size_t>(image)]) - begin;
  const std::span<std::byte> record = std::span(record_).first(static_cast<size_t>(bytes));
  RETURN_IF_ERROR(file_->Read(begin, record));
  return std::span<const std::byte>(record);
}

absl::Status ImageFile::WrongRecord(int64_t image) const {
  return file_->NotWritten(absl::StrCat("the captions of image ", image, " do not fit its ", record_.size(),
                                        " bytes or have tokens that are not below its vocabulary size of ",
                                        shape_.vocabulary_size));
}

absl::StatusOr<int32_t> ImageFile::CountIn(std::span<const std::byte> record, int32_t language) const {
  APTM_CHECK(language >= 0 && language < shape_.languages, language, " of ", shape_.languages);
  const uint32_t captions = Get32(record, kLabelsBytes + sizeof(uint32_t) * static_cast<size_t>(language));
  if (captions > record.size() / kCaptionBytes) {
    return file_->NotWritten(absl::StrCat("an image has ", captions, " captions in ", record.size(), " bytes"));
  }
  return static_cast<int32_t>(captions);
}

bool ImageFile::NextCaption(std::span<const std::byte> record, size_t* at, Caption* caption) {
  if (record.size() - *at < kCaptionBytes) return false;
  const size_t tokens = sizeof(int32_t) * size_t{Get32(record, *at)}, text = Get32(record, *at + 4);
  const size_t begin = *at + kCaptionBytes;
  if (record.size() - begin < tokens || record.size() - begin - tokens < text) return false;
  *caption = {.tokens = record.subspan(begin, tokens), .text = record.subspan(begin + tokens, text)};
  *at = begin + tokens + text;
  return true;
}

absl::StatusOr<ImageFile::Caption> ImageFile::FindCaption(const CaptionKey& key,
                                                          std::span<const std::byte> record) const {
  ASSIGN_OR_RETURN(const int32_t captions, CountIn(record, key.language));
  APTM_CHECK(key.which >= 0 && key.which < captions, "caption ", key.which, " of ", captions);
  int64_t before = key.which;
  for (int32_t language = 0; language < key.language; ++language) {
    ASSIGN_OR_RETURN(const int32_t others, CountIn(record, language));
    before += others;
  }
  size_t at = kLabelsBytes + sizeof(uint32_t) * static_cast<size_t>(shape_.languages);
  Caption caption;
  for (; before >= 0; --before) {
    if (!NextCaption(record, &at, &caption)) return WrongRecord(key.image);
  }
  return caption;
}

absl::Status ImageFile::CheckRecord(int64_t image) const {
  const std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const std::span<const std::byte> record, ReadRecord(image));
  RETURN_IF_ERROR(LabelsIn(record).status());
  int64_t captions = 0;
  for (int32_t language = 0; language < shape_.languages; ++language) {
    ASSIGN_OR_RETURN(const int32_t count, CountIn(record, language));
    captions += count;
  }
  size_t at = kLabelsBytes + sizeof(uint32_t) * static_cast<size_t>(shape_.languages);
  for (; captions > 0; --captions) {
    Caption caption;
    if (!NextCaption(record, &at, &caption)) return WrongRecord(image);
    for (size_t token = 0; token < caption.tokens.size(); token += sizeof(int32_t)) {
      if (Get32(caption.tokens, token) >= static_cast<uint32_t>(shape_.vocabulary_size)) return WrongRecord(image);
    }
  }
  return at == record.size() ? absl::OkStatus() : WrongRecord(image);
}

absl::Status ImageFile::ReadPixels(int64_t image, std::span<uint8_t> pixels) const {
  APTM_CHECK(static_cast<int64_t>(pixels.size()) == shape_.pixel_bytes(), pixels.size());
  return file_->Read(RecordBegin(image) - shape_.pixel_bytes(), std::as_writable_bytes(pixels));
}

absl::Status ImageFile::ReadPlanes(int64_t image, const ImageCut& cut, std::span<float> planes) const {
  const int64_t area = int64_t{cut.height} * cut.width, channels = shape_.channels;
  APTM_CHECK(static_cast<int64_t>(planes.size()) == channels * area, planes.size(), " for ", channels, " x ", area);
  APTM_CHECK(cut.top >= 0 && cut.left >= 0 && cut.top + cut.height <= shape_.height &&
             cut.left + cut.width <= shape_.width);
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(file_->Read(RecordBegin(image) - shape_.pixel_bytes(), pixels_));
  const uint8_t* all = reinterpret_cast<const uint8_t*>(pixels_.data());
  for (int64_t y = 0; y < cut.height; ++y) {
    const uint8_t* row = all + ((cut.top + y) * shape_.width + cut.left) * channels;
    for (int64_t x = 0; x < cut.width; ++x) {
      const uint8_t* pixel = row + (cut.flipped ? cut.width - 1 - x : x) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        planes[static_cast<size_t>(c * area + y * cut.width + x)] = LevelOfPixel(pixel[c]);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ImageLabels> ImageFile::LabelsIn(std::span<const std::byte> record) const {
  const ImageLabels labels = {.class_id = static_cast<int32_t>(Get32(record, 0)),
                              .style_id = static_cast<int32_t>(Get32(record, 4))};
  if (labels.class_id < -1 || labels.class_id >= shape_.classes || labels.style_id < 0 ||
      labels.style_id >= shape_.styles) {
    return file_->NotWritten(absl::StrCat("an image has class ", labels.class_id, " of ", shape_.classes, " and style ",
                                          labels.style_id, " of ", shape_.styles));
  }
  return labels;
}

absl::StatusOr<ImageLabels> ImageFile::ReadLabels(int64_t image) const {
  const std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const std::span<const std::byte> record, ReadRecord(image));
  return LabelsIn(record);
}

absl::StatusOr<int32_t> ImageFile::CaptionCount(int64_t image, int32_t language) const {
  const std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const std::span<const std::byte> record, ReadRecord(image));
  return CountIn(record, language);
}

absl::StatusOr<int32_t> ImageFile::ReadTokens(const CaptionKey& key, int32_t pad, std::span<int32_t> tokens) const {
  const std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const std::span<const std::byte> record, ReadRecord(key.image));
  ASSIGN_OR_RETURN(const Caption caption, FindCaption(key, record));
  const size_t length = caption.tokens.size() / sizeof(int32_t), copied = std::min(length, tokens.size());
  uint32_t largest = 0;
  for (size_t i = 0; i < copied; ++i) {
    const uint32_t token = Get32(caption.tokens, sizeof(int32_t) * i);
    largest = std::max(largest, token);
    tokens[i] = static_cast<int32_t>(token);
  }
  // A token outside the vocabulary would index a row outside the embedding table.
  if (copied > 0 && largest >= static_cast<uint32_t>(shape_.vocabulary_size)) return WrongRecord(key.image);
  std::fill(tokens.begin() + static_cast<int64_t>(copied), tokens.end(), pad);
  return static_cast<int32_t>(length);
}

absl::StatusOr<std::string> ImageFile::ReadCaption(const CaptionKey& key) const {
  const std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(const std::span<const std::byte> record, ReadRecord(key.image));
  ASSIGN_OR_RETURN(const Caption caption, FindCaption(key, record));
  return std::string(reinterpret_cast<const char*>(caption.text.data()), caption.text.size());
}

}  // namespace angel_ptm
