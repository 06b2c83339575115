#include "angel_ptm/data/pieces/text_pieces.h"

namespace angel_ptm {
namespace {

absl::Status Absent() { return absl::UnimplementedError("this build has no utf8proc to read captions with"); }

}  // namespace

absl::StatusOr<std::unique_ptr<const TextPieces>> OpenWordPieces(const std::string&) { return Absent(); }
absl::StatusOr<std::unique_ptr<const TextPieces>> OpenSentencePieces(const std::string&) { return Absent(); }

}  // namespace angel_ptm
