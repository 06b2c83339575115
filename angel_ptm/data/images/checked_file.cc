#include "angel_ptm/data/images/checked_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

constexpr int64_t kHeaderBytes = 4096, kChunkBytes = 1 << 20, kOwnHeaderOffset = 64;

struct Header {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t chunk_bytes;
  uint64_t checksums_offset;
  uint64_t checksums_xxh64;
  uint64_t file_bytes;
};
static_assert(sizeof(Header) == 40);

int64_t Chunks(int64_t content_bytes) { return (content_bytes + kChunkBytes - 1) / kChunkBytes; }

uint64_t PageChecksum(const std::byte* page) { return Xxh64(page, kHeaderBytes - sizeof(uint64_t)); }

}  // namespace

CheckedFileWriter::CheckedFileWriter(AtomicFile file, const CheckedFileKind& kind)
    : file_(std::move(file)), kind_(kind) {
  chunk_.reserve(kChunkBytes);
}

absl::StatusOr<CheckedFileWriter> CheckedFileWriter::Create(const std::string& path, const CheckedFileKind& kind) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(std::string(kHeaderBytes, '\0')));
  return CheckedFileWriter(std::move(file), kind);
}

absl::Status CheckedFileWriter::FlushChunk() {
  checksums_.push_back(Xxh64(chunk_.data(), chunk_.size()));
  RETURN_IF_ERROR(file_.Append(chunk_.data(), static_cast<int64_t>(chunk_.size())));
  chunk_.clear();
  return absl::OkStatus();
}

absl::Status CheckedFileWriter::Append(std::span<const std::byte> bytes) {
  content_bytes_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), kChunkBytes - chunk_.size());
    chunk_.insert(chunk_.end(), bytes.begin(), bytes.begin() + static_cast<int64_t>(part));
    bytes = bytes.subspan(part);
    if (chunk_.size() == kChunkBytes) RETURN_IF_ERROR(FlushChunk());
  }
  return absl::OkStatus();
}

absl::Status CheckedFileWriter::Finish(std::span<const std::byte> own_header) {
  APTM_CHECK(static_cast<int64_t>(own_header.size()) <= kOwnHeaderBytes, own_header.size());
  if (!chunk_.empty()) RETURN_IF_ERROR(FlushChunk());
  const size_t checksums_bytes = checksums_.size() * sizeof(uint64_t);
  const Header header = {.magic = kind_.magic,
                         .version = kind_.version,
                         .chunk_bytes = kChunkBytes,
                         .checksums_offset = static_cast<uint64_t>(file_.bytes()),
                         .checksums_xxh64 = Xxh64(checksums_.data(), checksums_bytes),
                         .file_bytes = static_cast<uint64_t>(file_.bytes()) + checksums_bytes};
  RETURN_IF_ERROR(file_.Append(checksums_.data(), static_cast<int64_t>(checksums_bytes)));
  std::vector<std::byte> page(kHeaderBytes);
  std::memcpy(page.data(), &header, sizeof(header));
  std::copy(own_header.begin(), own_header.end(), page.begin() + kOwnHeaderOffset);
  header_xxh64_ = PageChecksum(page.data());
  std::memcpy(page.data() + kHeaderBytes - sizeof(header_xxh64_), &header_xxh64_, sizeof(header_xxh64_));
  RETURN_IF_ERROR(file_.WriteAt(0, page.data(), kHeaderBytes));
  return file_.Close();
}

absl::StatusOr<std::unique_ptr<CheckedFile>> CheckedFile::Open(const std::string& path, const CheckedFileKind& kind,
                                                               const CheckedFileOptions& options) {
  ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(path));
  auto file = std::unique_ptr<CheckedFile>(new CheckedFile(std::move(reader), kind));
  ASSIGN_OR_RETURN(file->stamp_, file->file_.Stamp());
  RETURN_IF_ERROR(file->ReadHeader());
  file->checked_at_open_ = file->file_.size() <= options.checked_at_open_bytes_max;
  for (int64_t chunk = 0; file->checked_at_open_ && chunk < Chunks(file->content_bytes_); ++chunk) {
    RETURN_IF_ERROR(file->ReadChunk(chunk, 0, {}));
  }
  return file;
}

std::string CheckedFile::Name() const { return absl::StrCat(kind_.name, " ", path()); }

absl::Status CheckedFile::NotWritten(const std::string& what) const {
  return absl::DataLossError(absl::StrCat(Name(), " was not written by angel-ptm prepare: ", what, "; ", kind_.remedy));
}

absl::Status CheckedFile::ReadHeader() {
  if (file_.size() < kHeaderBytes) {
    return absl::DataLossError(absl::StrCat(Name(), " is truncated: expected at least a header of ", kHeaderBytes,
                                            " bytes, got ", file_.size(), " bytes"));
  }
  std::vector<std::byte> page(kHeaderBytes);
  RETURN_IF_ERROR(file_.ReadAt(0, page));
  Header header;
  std::memcpy(&header, page.data(), sizeof(header));
  if (header.magic != kind_.magic) {
    return absl::InvalidArgumentError(absl::StrCat(path(), " is not an angel-ptm ", kind_.name));
  }
  if (header.version != kind_.version) {
    return absl::InvalidArgumentError(absl::StrCat(Name(), " has format version ", header.version,
                                                   ", this program reads version ", kind_.version, "; ", kind_.remedy));
  }
  std::memcpy(&header_xxh64_, page.data() + kHeaderBytes - sizeof(header_xxh64_), sizeof(header_xxh64_));
  if (const uint64_t actual = PageChecksum(page.data()); actual != header_xxh64_) {
    return absl::DataLossError(absl::StrCat(Name(), " is damaged in its header: expected checksum ",
                                            ChecksumText(header_xxh64_), ", got ", ChecksumText(actual)));
  }
  const uint64_t bytes = static_cast<uint64_t>(file_.size());
  if (header.file_bytes != bytes) {
    return absl::DataLossError(absl::StrCat(Name(), " is ", bytes < header.file_bytes ? "truncated" : "too long",
                                            ": expected ", header.file_bytes, " bytes, got ", bytes));
  }
  if (header.chunk_bytes != kChunkBytes || header.checksums_offset < kHeaderBytes || header.checksums_offset > bytes) {
    return NotWritten(absl::StrCat("its chunks have ", header.chunk_bytes, " bytes and their checksums stand at byte ",
                                   header.checksums_offset, " of ", bytes));
  }
  content_bytes_ = static_cast<int64_t>(header.checksums_offset) - kHeaderBytes;
  const int64_t table = Chunks(content_bytes_) * static_cast<int64_t>(sizeof(uint64_t));
  if (static_cast<int64_t>(header.checksums_offset) + table != file_.size()) {
    return NotWritten(absl::StrCat("it should have ", table, " bytes of checksums, got ",
                                   file_.size() - static_cast<int64_t>(header.checksums_offset)));
  }
  std::copy_n(page.begin() + kOwnHeaderOffset, kOwnHeaderBytes, own_header_.begin());
  return ReadChecksums(static_cast<int64_t>(header.checksums_offset), header.checksums_xxh64);
}

absl::Status CheckedFile::ReadChecksums(int64_t offset, uint64_t expected) {
  checksums_.resize(static_cast<size_t>(Chunks(content_bytes_)));
  RETURN_IF_ERROR(file_.ReadAt(offset, std::as_writable_bytes(std::span(checksums_))));
  const uint64_t actual = Xxh64(checksums_.data(), checksums_.size() * sizeof(uint64_t));
  if (actual != expected) {
    return absl::DataLossError(absl::StrCat(Name(), " is damaged in its checksum table: expected checksum ",
                                            ChecksumText(expected), ", got ", ChecksumText(actual)));
  }
  verified_.assign(checksums_.size(), false);
  buffer_.resize(static_cast<size_t>(std::min(kChunkBytes, content_bytes_)));
  return absl::OkStatus();
}

absl::Status CheckedFile::NoticeChange() const {
  ASSIGN_OR_RETURN(const FileStamp now, file_.Stamp());
  if (now == stamp_) return absl::OkStatus();
  if (now.bytes < file_.size()) {
    return absl::DataLossError(
        absl::StrCat(Name(), " was truncated while it was in use: expected ", file_.size(), " bytes, got ", now.bytes));
  }
  // The content may still be the same; the checksums will show.
  stamp_ = now;
  changed_ = true;
  verified_.assign(verified_.size(), false);
  return absl::OkStatus();
}

absl::Status CheckedFile::ReadChunk(int64_t chunk, int64_t from, std::span<std::byte> out) const {
  const int64_t begin = kHeaderBytes + chunk * kChunkBytes;
  const size_t index = static_cast<size_t>(chunk);
  if (verified_[index]) return file_.ReadAt(begin + from, out);
  const int64_t bytes = std::min(kChunkBytes, content_bytes_ - chunk * kChunkBytes);
  const std::span<std::byte> read = std::span(buffer_).first(static_cast<size_t>(bytes));
  RETURN_IF_ERROR(file_.ReadAt(begin, read));
  if (const uint64_t actual = Xxh64(read.data(), read.size()); actual != checksums_[index]) {
    return absl::DataLossError(absl::StrCat(
        Name(), changed_ ? " was changed while it was in use, and" : "", " is damaged between bytes ", begin, " and ",
        begin + bytes, ": expected checksum ", ChecksumText(checksums_[index]), ", got ", ChecksumText(actual)));
  }
  verified_[index] = true;
  std::copy_n(read.begin() + from, out.size(), out.begin());
  return absl::OkStatus();
}

absl::Status CheckedFile::Read(int64_t offset, std::span<std::byte> out) const {
  const int64_t end = offset + static_cast<int64_t>(out.size());
  APTM_CHECK(offset >= 0 && end <= content_bytes_, offset, " to ", end, " of ", content_bytes_);
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(NoticeChange());
  for (int64_t at = offset; at < end;) {
    const int64_t chunk = at / kChunkBytes, part = std::min(end, (chunk + 1) * kChunkBytes) - at;
    RETURN_IF_ERROR(
        ReadChunk(chunk, at % kChunkBytes, out.subspan(static_cast<size_t>(at - offset), static_cast<size_t>(part))));
    at += part;
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
