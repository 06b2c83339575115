#include "angel_ptm/data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
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

int32_t TokenBytes(int64_t vocabulary_size) { return vocabulary_size <= 65536 ? 2 : 4; }

// The header's checksum is no proof that its numbers fit together: whoever changes them can compute it again. What
// follows from the counts must be what it says, so that nothing outside the file is read. `header.file_bytes` is right.
absl::Status CheckLayout(const Header& header, const std::string& path) {
  const auto wrong = [&](const char* what, const absl::AlphaNum& expected, uint64_t got) {
    return absl::DataLossError(absl::StrCat("token file ", path, " has a header whose numbers do not fit together: ",
                                            what, " should be ", expected, ", got ", got, "; prepare the text again"));
  };
  constexpr uint64_t kVocabularyMax = std::numeric_limits<int32_t>::max();
  if (header.vocabulary_size < 1 || header.vocabulary_size > kVocabularyMax) {
    return wrong("the vocabulary size", absl::StrCat("from 1 to ", kVocabularyMax), header.vocabulary_size);
  }
  const uint32_t token_bytes = TokenBytes(header.vocabulary_size);
  if (header.token_bytes != token_bytes) return wrong("the bytes per token", token_bytes, header.token_bytes);
  if (header.chunk_bytes != kChunkBytes) return wrong("the bytes per chunk", kChunkBytes, header.chunk_bytes);
  // Bounds first, so that the products below do not overflow.
  const uint64_t tokens_max = header.file_bytes / token_bytes, documents_max = header.file_bytes / sizeof(uint64_t);
  if (header.token_count > tokens_max) {
    return wrong("the token count", absl::StrCat("at most ", tokens_max), header.token_count);
  }
  if (header.document_count > documents_max) {
    return wrong("the document count", absl::StrCat("at most ", documents_max), header.document_count);
  }
  const uint64_t starts =
      kHeaderBytes + static_cast<uint64_t>(RoundUp8(static_cast<int64_t>(header.token_count * token_bytes)));
  if (header.starts_offset != starts) return wrong("the offset of the document starts", starts, header.starts_offset);
  const uint64_t checksums = starts + (header.document_count + 1) * sizeof(uint64_t);
  if (header.checksums_offset != checksums) {
    return wrong("the offset of the chunk checksums", checksums, header.checksums_offset);
  }
  const uint64_t chunks = (checksums - kHeaderBytes + kChunkBytes - 1) / kChunkBytes;
  const uint64_t bytes = checksums + chunks * sizeof(uint64_t);
  if (header.file_bytes != bytes) return wrong("the size of the file", bytes, header.file_bytes);
  return absl::OkStatus();
}

}  // namespace

TokenFileWriter::TokenFileWriter(AtomicFile file, int32_t vocabulary_size, uint64_t tokenizer_xxh64)
    : file_(std::move(file)),
      vocabulary_size_(vocabulary_size),
      token_bytes_(TokenBytes(vocabulary_size)),
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
  RETURN_IF_ERROR(CheckLayout(header, path_));
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
  return CheckValues();
}

absl::Status TokenFile::CheckValues() const {
  const auto wrong = [&](const std::string& what) {
    return absl::DataLossError(absl::StrCat("token file ", path_, " was not written by angel-ptm prepare: ", what,
                                            "; prepare the text again"));
  };
  if (document_starts_.front() != 0 || document_starts_.back() != static_cast<uint64_t>(token_count_)) {
    return wrong(absl::StrCat("its documents should cover tokens 0 to ", token_count_, ", got ",
                              document_starts_.front(), " to ", document_starts_.back()));
  }
  for (size_t i = 1; i < document_starts_.size(); ++i) {
    if (document_starts_[i] > document_starts_[i - 1]) continue;
    return wrong(absl::StrCat("document ", i, " should start behind token ", document_starts_[i - 1], ", got ",
                              document_starts_[i]));
  }
  // A token outside the vocabulary would be read as a row outside the embedding table.
  const uint32_t largest = token_bytes_ == 4 ? Largest<uint32_t>() : Largest<uint16_t>();
  if (token_count_ == 0 || largest < static_cast<uint32_t>(vocabulary_size_)) return absl::OkStatus();
  return wrong(absl::StrCat("its tokens should be below its vocabulary size of ", vocabulary_size_, ", got ", largest));
}

template <typename T>
uint32_t TokenFile::Largest() const {
  const T* const tokens = reinterpret_cast<const T*>(data_ + kHeaderBytes);
  T largest = 0;
  for (int64_t i = 0; i < token_count_; ++i) largest = std::max(largest, tokens[i]);
  return largest;
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
