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
  std::vector<int32_t> ids;  // special tokens among them, without padding
  std::string dropped;       // the end of the caption that did not fit
};

// Immutable; Encode is thread-safe.
class TextPieces {
 public:
  virtual ~TextPieces() = default;
  // At most `length` ids of a caption in valid UTF-8; `length` has room for the special tokens.
  virtual CaptionPieces Encode(std::string_view caption, int64_t length) const = 0;
  virtual int32_t pad_id() const = 0;
  virtual int64_t vocabulary_size() const = 0;
  // Of all that ids follow from.
  virtual uint64_t digest() const = 0;
};

// Of the files in a directory: vocab.txt, and tokenizer_config.json if it is there. Errors: a missing or damaged file,
// a vocabulary without the special tokens, a build without the library.
absl::StatusOr<std::unique_ptr<const TextPieces>> OpenWordPieces(const std::string& directory);
// spiece.model, in which </s> ends a text and <pad> is a token. Errors likewise.
absl::StatusOr<std::unique_ptr<const TextPieces>> OpenSentencePieces(const std::string& directory);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PIECES_TEXT_PIECES_H_
