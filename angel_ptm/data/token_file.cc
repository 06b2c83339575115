#include "angel_ptm/data/token_file.h"

#include <algorithm>
#include <array>
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
constexpr int64_t kHeaderBytes = 4096;  // the last 8 are the checksum of the rest
constexpr int64_t kChunkBytes = 1 << 20;

// The start of the file, little-endian, followed by zeros up to the header's checksum.
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
  uint32_t end_of_text_id;  // from version 2 on; earlier 0
  uint32_t zero;
};
static_assert(sizeof(Header) == 88);

int64_t RoundUp8(int64_t value) { return (value + 7) / 8 * 8; }

int32_t TokenBytes(int64_t vocabulary_size) { return vocabulary_size <= 65536 ? 2 : 4; }

// Token number `i` in `bytes`, which has 2 or 4 bytes per token.
uint32_t TokenAt(std::span<const std::byte> bytes, size_t i, int32_t token_bytes) {
  if (token_bytes == 4) {
    uint32_t token;
    std::memcpy(&token, bytes.data() + 4 * i, sizeof(token));
    return token;
  }
  uint16_t token;
  std::memcpy(&token, bytes.data() + 2 * i, sizeof(token));
  return token;
}

// The header's checksum does not prove that its numbers are consistent, since whoever changes them can recompute it. So
// everything that follows from the counts is checked, so that nothing outside the file is read. `header.file_bytes`
// must be right.
absl::Status CheckLayout(const Header& header, const std::string& path) {
  const auto wrong = [&](const char* what, const absl::AlphaNum& expected, uint64_t got) {
    return absl::DataLossError(absl::StrCat("token file ", path, " has a header whose numbers do not fit together: ",
                                            what, " should be ", expected, ", got ", got, "; prepare the text again"));
  };
  constexpr uint64_t kVocabularyMax = std::numeric_limits<int32_t>::max();
  if (header.vocabulary_size < 1 || header.vocabulary_size > kVocabularyMax) {
    return wrong("the vocabulary size", absl::StrCat("from 1 to ", kVocabularyMax), header.vocabulary_size);
  }
  if (header.end_of_text_id >= header.vocabulary_size) {
    return wrong("the token that ends documents", absl::StrCat("below ", header.vocabulary_size),
                 header.end_of_text_id);
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

TokenFileWriter::TokenFileWriter(AtomicFile file, int32_t vocabulary_size, int32_t end_of_text_id,
                                 uint64_t tokenizer_xxh64)
    : file_(std::move(file)),
      vocabulary_size_(vocabulary_size),
      end_of_text_id_(end_of_text_id),
      token_bytes_(TokenBytes(vocabulary_size)),
      tokenizer_xxh64_(tokenizer_xxh64) {
  chunk_.reserve(kChunkBytes);
}

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& path, int32_t vocabulary_size,
                                                        int32_t end_of_text_id, uint64_t tokenizer_xxh64) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  const std::string empty_header(kHeaderBytes, '\0');
  RETURN_IF_ERROR(file.Append(empty_header));
  return TokenFileWriter(std::move(file), vocabulary_size, end_of_text_id, tokenizer_xxh64);
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
  header.version = end_of_text_id_ == 0 ? 1 : kTokenFileVersion;
  header.end_of_text_id = static_cast<uint32_t>(end_of_text_id_);
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

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(const std::string& path, const Options& options) {
  ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(path));
  auto file = std::unique_ptr<TokenFile>(new TokenFile(std::move(reader)));
  ASSIGN_OR_RETURN(file->stamp_, file->file_.Stamp());
  RETURN_IF_ERROR(file->ReadHeader());
  if (file->file_.size() <= options.checked_at_open_bytes_max) RETURN_IF_ERROR(file->Verify());
  return file;
}

absl::Status TokenFile::ReadHeader() {
  if (file_.size() < kHeaderBytes) {
    return absl::DataLossError(absl::StrCat("token file ", path(), " is truncated: expected at least a header of ",
                                            kHeaderBytes, " bytes, got ", file_.size(), " bytes"));
  }
  std::array<char, kHeaderBytes> page;
  RETURN_IF_ERROR(file_.ReadAt(0, std::as_writable_bytes(std::span(page))));
  Header header;
  std::memcpy(&header, page.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path(), " is not a token file: expected it to start with APTMTOKS; make one with angel-ptm prepare"));
  }
  if (header.version < 1 || header.version > kTokenFileVersion) {
    return absl::InvalidArgumentError(absl::StrCat("token file ", path(), " has format version ", header.version,
                                                   ", expected 1 to ", kTokenFileVersion, "; prepare the text again"));
  }
  if (header.version == 1) header.end_of_text_id = 0;
  std::memcpy(&header_xxh64_, page.data() + kHeaderBytes - sizeof(header_xxh64_), sizeof(header_xxh64_));
  const uint64_t actual = Xxh64(page.data(), kHeaderBytes - sizeof(header_xxh64_));
  if (actual != header_xxh64_) {
    return absl::DataLossError(absl::StrCat("token file ", path(), " is damaged in its header: expected checksum ",
                                            ChecksumText(header_xxh64_), ", got ", ChecksumText(actual)));
  }
  const uint64_t bytes = static_cast<uint64_t>(file_.size());
  if (header.file_bytes != bytes) {
    return absl::DataLossError(absl::StrCat("token file ", path(), " is ",
                                            bytes < header.file_bytes ? "truncated" : "too long", ": expected ",
                                            header.file_bytes, " bytes, got ", bytes));
  }
  RETURN_IF_ERROR(CheckLayout(header, path()));
  token_count_ = static_cast<int64_t>(header.token_count);
  document_count_ = static_cast<int64_t>(header.document_count);
  content_end_ = static_cast<int64_t>(header.checksums_offset);
  token_bytes_ = static_cast<int32_t>(header.token_bytes);
  vocabulary_size_ = static_cast<int32_t>(header.vocabulary_size);
  end_of_text_id_ = static_cast<int32_t>(header.end_of_text_id);
  tokenizer_xxh64_ = header.tokenizer_xxh64;
  return ReadChecksums(content_end_, header.checksums_xxh64);
}

absl::Status TokenFile::ReadChecksums(int64_t offset, uint64_t expected_xxh64) {
  checksums_.resize(static_cast<size_t>(file_.size() - offset) / sizeof(uint64_t));
  RETURN_IF_ERROR(file_.ReadAt(offset, std::as_writable_bytes(std::span(checksums_))));
  const uint64_t actual = Xxh64(checksums_.data(), checksums_.size() * sizeof(uint64_t));
  if (actual != expected_xxh64) {
    return absl::DataLossError(absl::StrCat("token file ", path(),
                                            " is damaged in its checksum table: expected checksum ",
                                            ChecksumText(expected_xxh64), ", got ", ChecksumText(actual)));
  }
  verified_.assign(checksums_.size(), false);
  buffer_.resize(static_cast<size_t>(std::min(kChunkBytes, content_end_ - kHeaderBytes)));
  return absl::OkStatus();
}

int64_t TokenFile::ChunkBytes(int64_t chunk) const {
  return std::min(kChunkBytes, content_end_ - kHeaderBytes - chunk * kChunkBytes);
}

absl::Status TokenFile::NoticeChange() const {
  ASSIGN_OR_RETURN(const FileStamp now, file_.Stamp());
  if (now == stamp_) return absl::OkStatus();
  if (now.bytes < file_.size()) {
    return absl::DataLossError(absl::StrCat("token file ", path(), " was truncated while it was in use: expected ",
                                            file_.size(), " bytes, got ", now.bytes));
  }
  // The content may still be the same; the checksums will show.
  stamp_ = now;
  changed_ = true;
  verified_.assign(verified_.size(), false);
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::byte>> TokenFile::ReadChunk(int64_t chunk, int64_t from, int64_t to) const {
  const int64_t begin = kHeaderBytes + chunk * kChunkBytes, bytes = ChunkBytes(chunk);
  const bool verified = verified_[static_cast<size_t>(chunk)];
  const int64_t first = verified ? from : 0, last = verified ? to : bytes;
  const std::span<std::byte> read = std::span(buffer_).first(static_cast<size_t>(last - first));
  RETURN_IF_ERROR(file_.ReadAt(begin + first, read));
  if (!verified) {
    const uint64_t expected = checksums_[static_cast<size_t>(chunk)], actual = Xxh64(read.data(), read.size());
    if (actual != expected) {
      return absl::DataLossError(
          absl::StrCat("token file ", path(), changed_ ? " was changed while it was in use, and" : "",
                       " is damaged between bytes ", begin, " and ", begin + bytes, ": expected checksum ",
                       ChecksumText(expected), ", got ", ChecksumText(actual)));
    }
    verified_[static_cast<size_t>(chunk)] = true;
  }
  return std::span<const std::byte>(read).subspan(static_cast<size_t>(from - first), static_cast<size_t>(to - from));
}

absl::Status TokenFile::NotWritten(const std::string& what) const {
  return absl::DataLossError(
      absl::StrCat("token file ", path(), " was not written by angel-ptm prepare: ", what, "; prepare the text again"));
}

absl::Status TokenFile::Read(int64_t first, std::span<int32_t> tokens) const {
  const int64_t count = static_cast<int64_t>(tokens.size());
  APTM_CHECK(first >= 0 && first + count <= token_count_, first, " + ", count, " of ", token_count_);
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(NoticeChange());
  uint32_t largest = 0;
  const int64_t end = (first + count) * token_bytes_;
  for (int64_t at = first * token_bytes_; at < end;) {
    const int64_t chunk = at / kChunkBytes, from = at % kChunkBytes;
    const int64_t to = std::min(kChunkBytes, end - chunk * kChunkBytes);
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, ReadChunk(chunk, from, to));
    const size_t done = static_cast<size_t>(at / token_bytes_ - first), n = bytes.size() / token_bytes_;
    for (size_t i = 0; i < n; ++i) {
      const uint32_t token = TokenAt(bytes, i, token_bytes_);
      largest = std::max(largest, token);
      tokens[done + i] = static_cast<int32_t>(token);
    }
    at += to - from;
  }
  if (largest < static_cast<uint32_t>(vocabulary_size_)) return absl::OkStatus();
  // A token outside the vocabulary would index a row outside the embedding table.
  return NotWritten(
      absl::StrCat("its tokens should be below its vocabulary size of ", vocabulary_size_, ", got ", largest));
}

// What a pass over the whole file has seen so far.
struct TokenFile::Walk {
  uint32_t largest = 0;   // token
  uint32_t last = 0;      // token
  int64_t documents = 0;  // end-of-text tokens
  int64_t start = 0;      // index of the next document start
  uint64_t first_start = 0, last_start = 0;
};

// `bytes` begins `offset` bytes after the header.
absl::Status TokenFile::CheckPart(std::span<const std::byte> bytes, int64_t offset, Walk* walk) const {
  const int64_t tokens_bytes = token_count_ * token_bytes_, starts = RoundUp8(tokens_bytes);
  const int64_t tokens = std::clamp<int64_t>(tokens_bytes - offset, 0, bytes.size()) / token_bytes_;
  for (int64_t i = 0; i < tokens; ++i) {
    walk->last = TokenAt(bytes, static_cast<size_t>(i), token_bytes_);
    walk->largest = std::max(walk->largest, walk->last);
    walk->documents += walk->last == static_cast<uint32_t>(end_of_text_id_);
  }
  for (int64_t at = std::max(starts - offset, int64_t{0}); at < static_cast<int64_t>(bytes.size()); at += 8) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + at, sizeof(value));
    if (walk->start == 0) {
      walk->first_start = value;
    } else if (value <= walk->last_start) {
      return NotWritten(
          absl::StrCat("document ", walk->start, " should start behind token ", walk->last_start, ", got ", value));
    }
    walk->last_start = value;
    ++walk->start;
  }
  return absl::OkStatus();
}

absl::Status TokenFile::Verify() const {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(NoticeChange());
  Walk walk;
  for (int64_t chunk = 0; chunk < static_cast<int64_t>(checksums_.size()); ++chunk) {
    verified_[static_cast<size_t>(chunk)] = false;
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, ReadChunk(chunk, 0, ChunkBytes(chunk)));
    RETURN_IF_ERROR(CheckPart(bytes, chunk * kChunkBytes, &walk));
  }
  if (walk.first_start != 0 || walk.last_start != static_cast<uint64_t>(token_count_)) {
    return NotWritten(absl::StrCat("its documents should cover tokens 0 to ", token_count_, ", got ", walk.first_start,
                                   " to ", walk.last_start));
  }
  if (token_count_ > 0 && walk.largest >= static_cast<uint32_t>(vocabulary_size_)) {
    return NotWritten(
        absl::StrCat("its tokens should be below its vocabulary size of ", vocabulary_size_, ", got ", walk.largest));
  }
  if (walk.documents != document_count_ || walk.last != static_cast<uint32_t>(end_of_text_id_)) {
    return NotWritten(absl::StrCat("its ", document_count_, " documents should each end with the one token ",
                                   end_of_text_id_, ", got ", walk.documents, " of it, and ", walk.last,
                                   " at the end"));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
