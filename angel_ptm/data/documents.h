// Where documents begin and end in a text. Lines may end in "\n" or "\r\n".
#ifndef ANGEL_PTM_DATA_DOCUMENTS_H_
#define ANGEL_PTM_DATA_DOCUMENTS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace angel_ptm {

// The documents in `text`: divided at the end-of-text token (and the line end after it); what is longer than
// `bytes_max` is divided further, at the last empty line, else line end, else character before the limit.
std::vector<std::string_view> SplitDocuments(std::string_view text, int64_t bytes_max);

// Where the held-out part of a file's tail begins: after the first document's end, else the first empty line, that
// starts within the first `near` bytes, else after the first line's end; tail.size() if there is none.
size_t HeldOutStart(std::string_view tail, size_t near);

// Where to cut a text that goes on behind `piece` and is too long to be read at once: after the last document's end,
// else empty line, else line end, else character. More than 0 if the piece is not empty. Text whose documents are
// shorter than the piece has the same documents, cut or not.
size_t PieceEnd(std::string_view piece);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_DOCUMENTS_H_
