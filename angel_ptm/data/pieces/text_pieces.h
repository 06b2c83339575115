// Tokenizers of imported text encoders: BERT's WordPiece and T5's SentencePiece, with the ids of Hugging Face's.
#ifndef ANGEL_PTM_DATA_PIECES_TEXT_PIECES_H_
#define ANGEL_PTM_DATA_PIECES_TEXT_PIECES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

struct CaptionPieces {
  std::vector<int32_t> ids;  // including special tokens, without padding
  std::string dropped;       // the end of the caption that did not fit
};

// Immutable; Encode is thread-safe.
class TextPieces {
 public:
  virtual ~TextPieces() = default;
  // Returns at most `length` ids. `caption` must be valid UTF-8, and `length` at least the number of special tokens.
  virtual CaptionPieces Encode(std::string_view caption, int64_t length) const = 0;
  virtual int32_t pad_id() const = 0;
  virtual int64_t vocabulary_size() const = 0;
  // Digest of everything that determines the ids.
  virtual uint64_t digest() const = 0;
};

// Opens the files of a directory: vocab.txt and, if it exists, tokenizer_config.json. Errors: a missing or damaged
// file; a vocabulary without the special tokens; a build without the library.
absl::StatusOr<std::unique_ptr<const TextPieces>> OpenWordPieces(const std::string& directory);
// Opens spiece.model, in which </s> ends a text and <pad> is a token. Errors: as above.
absl::StatusOr<std::unique_ptr<const TextPieces>> OpenSentencePieces(const std::string& directory);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PIECES_TEXT_PIECES_H_
