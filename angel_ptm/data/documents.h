// Where documents begin and end in a text. Lines may end in "\n" or "\r\n".
#ifndef ANGEL_PTM_DATA_DOCUMENTS_H_
#define ANGEL_PTM_DATA_DOCUMENTS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace angel_ptm {

// The documents in `text`: divided at end-of-text tokens (with the line end after them). A document longer than
// `bytes_max` is divided further, at the last empty line before the limit, else the last line end, else the last
// character.
std::vector<std::string_view> SplitDocuments(std::string_view text, int64_t bytes_max);

// Where the held-out part of a file's tail begins: after the end of the first document, or else after the first empty
// line, that begins within the first `near` bytes; or else after the end of the first line; tail.size() if there is
// none.
size_t HeldOutStart(std::string_view tail, size_t near);

// Where to cut a text that continues after `piece` and is too long to be read in one piece: after the end of the last
// document, else the last empty line, line end or character. More than 0 if the piece is not empty. If all documents
// are shorter than the piece, cutting does not change them.
size_t PieceEnd(std::string_view piece);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_DOCUMENTS_H_
