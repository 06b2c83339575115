// Reads a unigram model of SentencePiece (Kudo 2018) from its file: normalises a text and finds its likeliest pieces.
//
// Does not use the library: Debian's exports a copy of protobuf-lite of another version than libprotobuf's, and a
// program with both crashes before main.
#ifndef ANGEL_PTM_DATA_PIECES_SENTENCE_PIECE_MODEL_H_
#define ANGEL_PTM_DATA_PIECES_SENTENCE_PIECE_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

class SentencePieceModel {
 public:
  struct Piece {
    int32_t id;
    size_t begin;  // byte offset in the text
  };

  // `bytes`: content of the file. Errors name `name`: what is damaged, or a model of another kind.
  static absl::StatusOr<SentencePieceModel> Parse(std::string_view bytes, const std::string& name);

  // `text` must be valid UTF-8.
  std::vector<Piece> Encode(std::string_view text) const;
  // Returns -1 if it is not a token.
  int32_t IdOf(std::string_view piece) const;
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  enum Type : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Token {
    std::string text;
    float score = 0;
    int type = kNormal;
  };
  // A text with its characters replaced, and for each of its bytes the originating byte of the original.
  struct Normalised {
    std::string text;
    std::vector<size_t> origin;
  };
  struct Replaced {
    std::string_view by;
    size_t consumed;
  };

  absl::Status ReadPieces(std::string_view bytes, const std::string& name);
  absl::Status ReadRules(std::string_view bytes, const std::string& name);
  Replaced ReplaceFirst(std::string_view text) const;
  Normalised Normalise(std::string_view text) const;

  std::vector<Token> pieces_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // of pieces that occur in texts
  size_t piece_bytes_max_ = 0;
  int32_t unknown_id_ = -1;
  float unknown_score_ = 0;
  bool byte_fallback_ = false;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<uint32_t> trie_;  // maps characters to replace to offsets in replacements_
  std::string replacements_;
  bool dummy_prefix_ = true, remove_extra_spaces_ = true, escape_spaces_ = true;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PIECES_SENTENCE_PIECE_MODEL_H_
