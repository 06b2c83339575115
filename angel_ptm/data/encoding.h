// Detects files that are not UTF-8 text. Reading another encoding as UTF-8 would train a model on rubbish without an
// error.
#ifndef ANGEL_PTM_DATA_ENCODING_H_
#define ANGEL_PTM_DATA_ENCODING_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace angel_ptm {

// The byte order mark that some programs put before UTF-8 text; it is not part of the text.
inline constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
inline constexpr int64_t kHeadBytes = 16;

// The kind of a file that certainly is not UTF-8 text, as its first bytes show: "UTF-16 text", "a PNG image"; else "".
// `head` has the file's first kHeadBytes bytes, or the whole file.
std::string KindByMark(std::string_view head);

// Counts of one file.
struct TextCounts {
  int64_t bytes = 0;
  int64_t ill_formed = 0;     // ill-formed UTF-8 sequences
  int64_t zeros[2] = {0, 0};  // zero bytes at even and at odd offsets
};
// Adds the bytes of `text`, which begins at `offset` in its file. Whoever replaces ill-formed sequences counts them.
void CountText(std::string_view text, int64_t offset, TextCounts* counts);

// Why a file with these counts is not taken for UTF-8 text: more than 1 % of its bytes, and at least 16, are zeros or
// begin an ill-formed sequence; else "". A few stray bytes are accepted.
std::string KindByCounts(const TextCounts& counts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_ENCODING_H_
