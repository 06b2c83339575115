#include "angel_ptm/data/encoding.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

std::string KindByMark(std::string_view head) {
  using std::string_view_literals::operator""sv;
  // UTF-32's little-endian mark begins with UTF-16's, so it comes first.
  constexpr std::pair<std::string_view, const char*> kMarks[] = {{"\xFF\xFE\0\0"sv, "UTF-32 text"},
                                                                 {"\0\0\xFE\xFF"sv, "UTF-32 text"},
                                                                 {"\xFF\xFE"sv, "UTF-16 text"},
                                                                 {"\xFE\xFF"sv, "UTF-16 text"},
                                                                 {"\x89PNG\r\n"sv, "a PNG image"},
                                                                 {"\xFF\xD8\xFF"sv, "a JPEG image"},
                                                                 {"GIF8"sv, "a GIF image"},
                                                                 {"%PDF-"sv, "a PDF document"},
                                                                 {"PK\x03\x04"sv, "a zip archive"},
                                                                 {"\x1F\x8B"sv, "gzip-compressed"},
                                                                 {"\x28\xB5\x2F\xFD"sv, "zstd-compressed"},
                                                                 {"\xFD"
                                                                  "7zXZ"sv,
                                                                  "xz-compressed"},
                                                                 {"BZh"sv, "bzip2-compressed"},
                                                                 {"PAR1"sv, "a Parquet file"},
                                                                 {"\x7F"
                                                                  "ELF"sv,
                                                                  "a program"}};
  for (const auto& [mark, kind] : kMarks) {
    if (head.starts_with(mark)) return kind;
  }
  return "";
}

void CountText(std::string_view text, int64_t offset, TextCounts* counts) {
  counts->bytes += static_cast<int64_t>(text.size());
  for (size_t at = text.find('\0'); at != std::string_view::npos; at = text.find('\0', at + 1)) {
    ++counts->zeros[(offset + static_cast<int64_t>(at)) % 2];
  }
}

std::string KindByCounts(const TextCounts& counts) {
  const auto many = [&](int64_t count) { return count >= 16 && count > counts.bytes / 100; };
  const int64_t zeros = counts.zeros[0] + counts.zeros[1];
  if (many(zeros)) {
    const bool utf16 = std::max(counts.zeros[0], counts.zeros[1]) > 9 * std::min(counts.zeros[0], counts.zeros[1]);
    return absl::StrCat(utf16 ? "UTF-16 text without a mark, or no text: " : "no text: ", zeros, " of its ",
                        counts.bytes, " bytes are zero");
  }
  if (!many(counts.ill_formed)) return "";
  return absl::StrCat("text in another encoding (GB18030, UTF-16, Latin-1, ...), or no text: ", counts.ill_formed,
                      " places in its ", counts.bytes, " bytes are no UTF-8");
}

}  // namespace angel_ptm
