// Tells files that are no UTF-8 text from those that are: what is read as another encoding than it has trains a model
// on rubbish without an error.
#ifndef ANGEL_PTM_DATA_ENCODING_H_
#define ANGEL_PTM_DATA_ENCODING_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace angel_ptm {

// The mark that some programs put before UTF-8 text; it is not part of the text.
inline constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
inline constexpr int64_t kHeadBytes = 16;

// What a file that begins with `head` (kHeadBytes, or the whole file) is if it is no UTF-8 text for certain, by its
// mark: "UTF-16 text", "a PNG image"; else "".
std::string KindByMark(std::string_view head);

// Of one file.
struct TextCounts {
  int64_t bytes = 0;
  int64_t ill_formed = 0;     // UTF-8 sequences
  int64_t zeros[2] = {0, 0};  // bytes at even and at odd offsets
};
// Adds `text`, which stands at `offset` in its file; its ill-formed sequences are counted by who replaces them.
void CountText(std::string_view text, int64_t offset, TextCounts* counts);

// Why a file with these counts is taken for no UTF-8 text: more than 1 % of its bytes, and at least 16, are zeros or
// begin an ill-formed sequence; else "". Stray bad bytes are no reason.
std::string KindByCounts(const TextCounts& counts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_ENCODING_H_
