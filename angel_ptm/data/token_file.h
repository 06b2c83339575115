// Packed tokens on disk: all documents one after the other, their borders, and a checksum per 1 MiB. FORMAT.md
// describes the format byte by byte.
#ifndef ANGEL_PTM_DATA_TOKEN_FILE_H_
#define ANGEL_PTM_DATA_TOKEN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {

// Version 2 records which token ends documents; in version 1 it is id 0.
inline constexpr uint32_t kTokenFileVersion = 2;

class TokenFileWriter {
 public:
  // `tokenizer_xxh64` is the checksum of the tokenizer.json that made the tokens. Tokens take 2 bytes if the vocabulary
  // allows it, else 4. The file has version 1 if that can represent its content.
  static absl::StatusOr<TokenFileWriter> Create(const std::string& path, int32_t vocabulary_size,
                                                int32_t end_of_text_id, uint64_t tokenizer_xxh64);

  // Appends one document. It must not be empty, and its last token must be the end-of-text token.
  absl::Status AppendDocument(std::span<const int32_t> tokens);

  // Writes borders, checksums and header, and syncs. The file keeps its temporary name until Commit.
  absl::Status Finish();
  // Gives the finished file its final name.
  absl::Status Commit() { return file_.Commit(); }

  int64_t token_count() const { return static_cast<int64_t>(document_starts_.back()); }
  int64_t document_count() const { return static_cast<int64_t>(document_starts_.size()) - 1; }
  // The checksum of the header, which covers the other checksums and so identifies the whole file. Valid after Finish.
  uint64_t header_xxh64() const { return header_xxh64_; }

 private:
  TokenFileWriter(AtomicFile file, int32_t vocabulary_size, int32_t end_of_text_id, uint64_t tokenizer_xxh64);
  absl::Status AppendBytes(const void* data, int64_t bytes);
  absl::Status FlushChunk();

  AtomicFile file_;
  int32_t vocabulary_size_;
  int32_t end_of_text_id_;
  int32_t token_bytes_;
  uint64_t tokenizer_xxh64_;
  uint64_t header_xxh64_ = 0;
  std::vector<uint64_t> document_starts_ = {0};
  std::vector<uint64_t> checksums_;
  std::vector<char> chunk_;
};

// A token file open for reading. Thread-safe; reads are serialised. No byte is used before the checksum of its chunk
// has been checked: a small file is checked as a whole when it is opened, a larger one chunk by chunk at the first
// read, so that many ranks can open terabytes at the same time. A later change of the file is noticed by its
// modification time and checked again. A token above the vocabulary is never returned.
class TokenFile {
 public:
  struct Options {
    int64_t checked_at_open_bytes_max = int64_t{256} << 20;  // larger files are checked while they are read
  };

  // Checks size, header and the table of checksums, and Verify()s a small file. Keeps one chunk (1 MiB) and 8 bytes per
  // chunk in memory. Errors name the file, what was expected and what was found: DataLoss for a truncated or altered
  // file, InvalidArgument for another format or version.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(const std::string& path, const Options& options);
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(const std::string& path) { return Open(path, Options()); }
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  int64_t token_count() const { return token_count_; }
  int64_t document_count() const { return document_count_; }
  int32_t vocabulary_size() const { return vocabulary_size_; }
  int32_t end_of_text_id() const { return end_of_text_id_; }
  uint64_t tokenizer_xxh64() const { return tokenizer_xxh64_; }
  uint64_t header_xxh64() const { return header_xxh64_; }
  const std::string& path() const { return file_.path(); }

  // Sets tokens[i] to token number first + i, which is below the vocabulary size. The range must lie in the file.
  // Allocates only for an error: the file was truncated, changed, or cannot be read.
  absl::Status Read(int64_t first, std::span<int32_t> tokens) const;

  // Reads and checks everything: all chunks; that documents follow each other and end with the end-of-text token, which
  // occurs nowhere else; that tokens are below the vocabulary size.
  absl::Status Verify() const;

 private:
  explicit TokenFile(FileReader file) : file_(std::move(file)) {}
  absl::Status ReadHeader();
  absl::Status ReadChecksums(int64_t offset, uint64_t expected_xxh64);
  // Bytes `from` to `to` of a chunk, as a part of buffer_.
  absl::StatusOr<std::span<const std::byte>> ReadChunk(int64_t chunk, int64_t from, int64_t to) const;
  absl::Status NoticeChange() const;
  absl::Status NotWritten(const std::string& what) const;
  int64_t ChunkBytes(int64_t chunk) const;

  struct Walk;
  absl::Status CheckPart(std::span<const std::byte> bytes, int64_t offset, Walk* walk) const;

  FileReader file_;
  int64_t token_count_ = 0;
  int64_t document_count_ = 0;
  int64_t content_end_ = 0;  // end of the document starts
  int32_t token_bytes_ = 0;
  int32_t vocabulary_size_ = 0;
  int32_t end_of_text_id_ = 0;
  uint64_t tokenizer_xxh64_ = 0;
  uint64_t header_xxh64_ = 0;
  std::vector<uint64_t> checksums_;  // by chunk

  mutable std::mutex mutex_;  // guards the members below
  mutable FileStamp stamp_;
  mutable bool changed_ = false;        // since the file was opened
  mutable std::vector<bool> verified_;  // by chunk, since the last change
  mutable std::vector<std::byte> buffer_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_TOKEN_FILE_H_
