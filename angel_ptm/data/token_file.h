// Packed tokens on disk: all documents one after the other, their borders, and a checksum per 1 MiB. The format is
// described byte by byte in FORMAT.md.
#ifndef ANGEL_PTM_DATA_TOKEN_FILE_H_
#define ANGEL_PTM_DATA_TOKEN_FILE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {

inline constexpr uint32_t kTokenFileVersion = 1;

class TokenFileWriter {
 public:
  // `tokenizer_xxh64` is the checksum of the tokenizer.json that made the tokens. Tokens are stored in 2 bytes when the
  // vocabulary allows it, else in 4.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& path, int32_t vocabulary_size,
                                                uint64_t tokenizer_xxh64);

  // Appends one document; its last token is the end-of-text token. No empty documents.
  absl::Status AppendDocument(std::span<const int32_t> tokens);

  // Writes borders, checksums and header and syncs; the file still has its temporary name.
  absl::Status Finish();
  // Gives the finished file its name.
  absl::Status Commit() { return file_.Commit(); }

  int64_t token_count() const { return static_cast<int64_t>(document_starts_.back()); }
  int64_t document_count() const { return static_cast<int64_t>(document_starts_.size()) - 1; }
  // The header's own checksum, which covers the others: identifies the whole file. After Finish.
  uint64_t header_xxh64() const { return header_xxh64_; }

 private:
  TokenFileWriter(AtomicFile file, int32_t vocabulary_size, uint64_t tokenizer_xxh64);
  absl::Status AppendBytes(const void* data, int64_t bytes);
  absl::Status FlushChunk();

  AtomicFile file_;
  int32_t vocabulary_size_;
  int32_t token_bytes_;
  uint64_t tokenizer_xxh64_;
  uint64_t header_xxh64_ = 0;
  std::vector<uint64_t> document_starts_ = {0};
  std::vector<uint64_t> checksums_;
  std::vector<char> chunk_;
};

// A token file mapped into memory, read-only; threads share one.
class TokenFile {
 public:
  // Checks size, header, every checksum, and that documents and tokens are within the file and its vocabulary (several
  // GB/s from the page cache). Errors name the file, what was expected
  // and what was found: DataLoss for a truncated or altered file, InvalidArgument for another format or version.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(const std::string& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  int64_t token_count() const { return token_count_; }
  int64_t document_count() const { return static_cast<int64_t>(document_starts_.size()) - 1; }
  int32_t vocabulary_size() const { return vocabulary_size_; }
  uint64_t tokenizer_xxh64() const { return tokenizer_xxh64_; }
  uint64_t header_xxh64() const { return header_xxh64_; }
  const std::string& path() const { return path_; }

  // tokens[i] = token number first + i. The range lies in the file. No allocation.
  void Read(int64_t first, std::span<int32_t> tokens) const;
  // Token number of each document's first token, ascending from 0; one more entry, the token count, at the end.
  std::span<const uint64_t> document_starts() const { return document_starts_; }

 private:
  explicit TokenFile(std::string path) : path_(std::move(path)) {}
  absl::Status Map();
  absl::Status CheckHeader();
  absl::Status CheckContent() const;
  absl::Status CheckValues() const;
  template <typename T>
  uint32_t Largest() const;

  std::string path_;
  const char* data_ = nullptr;
  int64_t bytes_ = 0;
  int64_t token_count_ = 0;
  int32_t token_bytes_ = 0;
  int32_t vocabulary_size_ = 0;
  uint64_t tokenizer_xxh64_ = 0;
  uint64_t header_xxh64_ = 0;
  std::span<const uint64_t> document_starts_;
  std::span<const uint64_t> checksums_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_TOKEN_FILE_H_
