#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/data/pieces/sentence_piece_model.h"
#include "angel_ptm/data/pieces/text_pieces.h"

namespace angel_ptm {
namespace {

class SentencePieces final : public TextPieces {
 public:
  SentencePieces(SentencePieceModel model, int32_t end_id, int32_t pad, uint64_t file_digest)
      : model_(std::move(model)), end_id_(end_id), pad_id_(pad), digest_(file_digest) {}

  CaptionPieces Encode(std::string_view caption, int64_t length) const override {
    CaptionPieces encoded;
    for (const SentencePieceModel::Piece& piece : model_.Encode(caption)) {
      if (static_cast<int64_t>(encoded.ids.size()) == length - 1) {
        encoded.dropped = caption.substr(std::min(piece.begin, caption.size()));
        break;
      }
      encoded.ids.push_back(piece.id);
    }
    encoded.ids.push_back(end_id_);
    return encoded;
  }
  int32_t pad_id() const override { return pad_id_; }
  int64_t vocabulary_size() const override { return model_.size(); }
  uint64_t digest() const override { return digest_; }

 private:
  const SentencePieceModel model_;
  const int32_t end_id_, pad_id_;
  const uint64_t digest_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const TextPieces>> OpenSentencePieces(const std::string& directory) {
  const std::string path = directory + "/spiece.model";
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(SentencePieceModel model, SentencePieceModel::Parse(bytes, path));
  const int32_t end = model.IdOf("</s>"), pad = model.IdOf("<pad>");
  if (end < 0 || pad < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": wanted the tokens </s> and <pad>, got a model without ", end < 0 ? "</s>" : "<pad>"));
  }
  return std::make_unique<const SentencePieces>(std::move(model), end, pad, Xxh3(bytes));
}

}  // namespace angel_ptm
