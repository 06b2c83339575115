#include "angel_ptm/data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

constexpr char kMagic[8] = {'A', 'P', 'T', 'M', 'T', 'O', 'K', 'S'};
constexpr int64_t kHeaderBytes = 4096;  // the last 8 are the checksum of the others
constexpr int64_t kChunkBytes = 1 << 20;

// The start of the file, little-endian; zeros up to the header's checksum.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;  // 2 or 4
  uint64_t token_count;
  uint64_t document_count;
  uint32_t vocabulary_size;
  uint32_t chunk_bytes;
  uint64_t tokenizer_xxh64;
  uint64_t starts_offset;     // of the document starts
  uint64_t checksums_offset;  // of the chunk checksums
  uint64_t checksums_xxh64;
  uint64_t file_bytes;
};
static_assert(sizeof(Header) == 80);

int64_t RoundUp8(int64_t value) { return (value + 7) / 8 * 8; }

}  // namespace

TokenFileWriter::TokenFileWriter(AtomicFile file, int32_t vocabulary_size, uint64_t tokenizer_xxh64)
    : file_(std::move(file)),
      vocabulary_size_(vocabulary_size),
      token_bytes_(vocabulary_size <= 65536 ? 2 : 4),
      tokenizer_xxh64_(tokenizer_xxh64) {
  chunk_.reserve(kChunkBytes);
}

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& path, int32_t vocabulary_size,
                                                        uint64_t tokenizer_xxh64) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  const std::string empty_header(kHeaderBytes, '\0');
  RETURN_IF_ERROR(file.Append(empty_header));
  return TokenFileWriter(std::move(file), vocabulary_size, tokenizer_xxh64);
}

absl::Status TokenFileWriter::FlushChunk() {
  checksums_.push_back(Xxh64(chunk_.data(), chunk_.size()));
  RETURN_IF_ERROR(file_.Append(chunk_.data(), static_cast<int64_t>(chunk_.size())));
  chunk_.clear();
  return absl::OkStatus();
}

absl::Status TokenFileWriter::AppendBytes(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const int64_t part = std::min(bytes, kChunkBytes - static_cast<int64_t>(chunk_.size()));
    chunk_.insert(chunk_.end(), p, p + part);
    p += part;
    bytes -= part;
    if (static_cast<int64_t>(chunk_.size()) == kChunkBytes) RETURN_IF_ERROR(FlushChunk());
  }
  return absl::OkStatus();
}

absl::Status TokenFileWriter::AppendDocument(std::span<const int32_t> tokens) {
  APTM_CHECK(!tokens.empty(), "empty document for ", file_.path());
  document_starts_.push_back(document_starts_.back() + tokens.size());
  for (int32_t token : tokens) APTM_CHECK(token >= 0 && token < vocabulary_size_, token);
  if (token_bytes_ == 4) return AppendBytes(tokens.data(), static_cast<int64_t>(tokens.size_bytes()));
  uint16_t narrow[512];
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), std::size(narrow));
    for (size_t i = 0; i < count; ++i) narrow[i] = static_cast<uint16_t>(tokens[i]);
    RETURN_IF_ERROR(AppendBytes(narrow, static_cast<int64_t>(count * sizeof(uint16_t))));
    tokens = tokens.subspan(count);
  }
  return absl::OkStatus();
}

absl::Status TokenFileWriter::Finish() {
  const int64_t tokens_bytes = token_count() * token_bytes_;
  const uint64_t zero = 0;
  RETURN_IF_ERROR(AppendBytes(&zero, RoundUp8(tokens_bytes) - tokens_bytes));
  const int64_t starts_bytes = static_cast<int64_t>(document_starts_.size() * sizeof(uint64_t));
  RETURN_IF_ERROR(AppendBytes(document_starts_.data(), starts_bytes));
  if (!chunk_.empty()) RETURN_IF_ERROR(FlushChunk());
  const int64_t checksums_bytes = static_cast<int64_t>(checksums_.size() * sizeof(uint64_t));
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kTokenFileVersion;
  header.token_bytes = token_bytes_;
  header.token_count = token_count();
  header.document_count = document_count();
  header.vocabulary_size = vocabulary_size_;
  header.chunk_bytes = kChunkBytes;
  header.tokenizer_xxh64 = tokenizer_xxh64_;
  header.starts_offset = kHeaderBytes + RoundUp8(tokens_bytes);
  header.checksums_offset = file_.bytes();
  header.checksums_xxh64 = Xxh64(checksums_.data(), checksums_bytes);
  header.file_bytes = file_.bytes() + checksums_bytes;
  RETURN_IF_ERROR(file_.Append(checksums_.data(), checksums_bytes));
  char page[kHeaderBytes] = {};
  std::memcpy(page, &header, sizeof(header));
  header_xxh64_ = Xxh64(page, kHeaderBytes - sizeof(header_xxh64_));
  std::memcpy(page + kHeaderBytes - sizeof(header_xxh64_), &header_xxh64_, sizeof(header_xxh64_));
  RETURN_IF_ERROR(file_.WriteAt(0, page, kHeaderBytes));
  return file_.Close();
}

TokenFile::~TokenFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), bytes_);
}

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(const std::string& path) {
  auto file = std::unique_ptr<TokenFile>(new TokenFile(path));
  RETURN_IF_ERROR(file->Map());
  RETURN_IF_ERROR(file->CheckHeader());
  RETURN_IF_ERROR(file->CheckContent());
  return file;
}

absl::Status TokenFile::Map() {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open the token file", path_, errno);
  struct stat info;
  if (fstat(fd, &info) < 0) {
    const int error = errno;
    close(fd);
    return FileError("read the token file", path_, error);
  }
  bytes_ = info.st_size;
  if (bytes_ < kHeaderBytes) {
    close(fd);
    return absl::DataLossError(absl::StrCat("token file ", path_, " is truncated: expected at least a header of ",
                                            kHeaderBytes, " bytes, got ", bytes_, " bytes"));
  }
  void* const data = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) return FileError("map the token file", path_, error);
  data_ = static_cast<const char*>(data);
  return absl::OkStatus();
}

absl::Status TokenFile::CheckHeader() {
  Header header;
  std::memcpy(&header, data_, sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, " is not a token file: expected it to start with APTMTOKS; make one with angel-ptm prepare"));
  }
  if (header.version != kTokenFileVersion) {
    return absl::InvalidArgumentError(absl::StrCat("token file ", path_, " has format version ", header.version,
                                                   ", expected ", kTokenFileVersion, "; prepare the text again"));
  }
  std::memcpy(&header_xxh64_, data_ + kHeaderBytes - sizeof(header_xxh64_), sizeof(header_xxh64_));
  const uint64_t actual = Xxh64(data_, kHeaderBytes - sizeof(header_xxh64_));
  if (actual != header_xxh64_) {
    return absl::DataLossError(absl::StrCat("token file ", path_, " is damaged in its header: expected checksum ",
                                            ChecksumText(header_xxh64_), ", got ", ChecksumText(actual)));
  }
  if (header.file_bytes != static_cast<uint64_t>(bytes_)) {
    return absl::DataLossError(absl::StrCat(
        "token file ", path_, " is ", static_cast<uint64_t>(bytes_) < header.file_bytes ? "truncated" : "too long",
        ": expected ", header.file_bytes, " bytes, got ", bytes_));
  }
  // From here the header is what a writer wrote.
  token_count_ = static_cast<int64_t>(header.token_count);
  token_bytes_ = static_cast<int32_t>(header.token_bytes);
  vocabulary_size_ = static_cast<int32_t>(header.vocabulary_size);
  tokenizer_xxh64_ = header.tokenizer_xxh64;
  document_starts_ = {reinterpret_cast<const uint64_t*>(data_ + header.starts_offset), header.document_count + 1};
  checksums_ = {reinterpret_cast<const uint64_t*>(data_ + header.checksums_offset),
                (header.file_bytes - header.checksums_offset) / sizeof(uint64_t)};
  const uint64_t checksums_actual = Xxh64(checksums_.data(), checksums_.size_bytes());
  if (checksums_actual != header.checksums_xxh64) {
    return absl::DataLossError(
        absl::StrCat("token file ", path_, " is damaged in its checksum table: expected checksum ",
                     ChecksumText(header.checksums_xxh64), ", got ", ChecksumText(checksums_actual)));
  }
  return absl::OkStatus();
}

absl::Status TokenFile::CheckContent() const {
  const int64_t end = reinterpret_cast<const char*>(checksums_.data()) - data_;
  for (size_t i = 0; i < checksums_.size(); ++i) {
    const int64_t begin = kHeaderBytes + static_cast<int64_t>(i) * kChunkBytes;
    const uint64_t actual = Xxh64(data_ + begin, std::min(kChunkBytes, end - begin));
    if (actual != checksums_[i]) {
      return absl::DataLossError(absl::StrCat("token file ", path_, " is damaged between bytes ", begin, " and ",
                                              std::min(begin + kChunkBytes, end), ": expected checksum ",
                                              ChecksumText(checksums_[i]), ", got ", ChecksumText(actual)));
    }
  }
  return absl::OkStatus();
}

void TokenFile::Read(int64_t first, std::span<int32_t> tokens) const {
  const int64_t count = static_cast<int64_t>(tokens.size());
  APTM_CHECK(first >= 0 && first + count <= token_count_, first, " + ", count, " of ", token_count_);
  const char* const source = data_ + kHeaderBytes + first * token_bytes_;
  if (token_bytes_ == 4) {
    std::memcpy(tokens.data(), source, tokens.size_bytes());
    return;
  }
  const uint16_t* const narrow = reinterpret_cast<const uint16_t*>(source);
  for (int64_t i = 0; i < count; ++i) tokens[i] = narrow[i];
}

}  // namespace angel_ptm
