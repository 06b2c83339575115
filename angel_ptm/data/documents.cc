#include "angel_ptm/data/documents.h"

#include <algorithm>

#include "angel_ptm/data/tokenizer.h"

namespace angel_ptm {
namespace {

constexpr size_t kNone = std::string_view::npos;
// An empty line, from the end of the preceding line on.
constexpr std::string_view kEmptyLines[] = {"\n\n", "\n\r\n"};

// Size of the line end at the start of `text`, or 0.
size_t LineEndBytes(std::string_view text) { return text.starts_with("\r\n") ? 2 : text.starts_with("\n") ? 1 : 0; }

// The end of the last empty line, else of the last line; 0 if there is neither.
size_t LastLineBorder(std::string_view text) {
  size_t end = 0;
  for (const std::string_view empty_line : kEmptyLines) {
    const size_t at = text.rfind(empty_line);
    if (at != kNone) end = std::max(end, at + empty_line.size());
  }
  return end > 0 ? end : text.rfind('\n') + 1;  // npos + 1 is 0
}

bool ContinuesCharacter(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::vector<std::string_view> SplitDocuments(std::string_view text, int64_t bytes_max) {
  std::vector<std::string_view> documents;
  const size_t limit = static_cast<size_t>(bytes_max);
  while (!text.empty()) {
    const size_t end = std::min(text.find(kEndOfTextToken), text.size());
    std::string_view document = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + kEndOfTextToken.size()));
    text.remove_prefix(LineEndBytes(text));
    while (document.size() > limit) {
      size_t cut = LastLineBorder(document.substr(0, limit));
      if (cut == 0) {
        // Do not cut within a character, which has at most 4 bytes.
        for (cut = limit; cut > 1 && ContinuesCharacter(document[cut]);) --cut;
      }
      documents.push_back(document.substr(0, cut));
      document.remove_prefix(cut);
    }
    if (!document.empty()) documents.push_back(document);
  }
  return documents;
}

size_t HeldOutStart(std::string_view tail, size_t near) {
  const size_t token = tail.find(kEndOfTextToken);
  if (token < near) {
    const size_t end = token + kEndOfTextToken.size();
    return end + LineEndBytes(tail.substr(end));
  }
  size_t first = kNone, end = 0;
  for (const std::string_view empty_line : kEmptyLines) {
    const size_t at = tail.find(empty_line);
    if (at >= first) continue;
    first = at;
    end = at + empty_line.size();
  }
  if (first < near) return end;
  const size_t line = tail.find('\n');
  return line == kNone ? tail.size() : line + 1;
}

size_t PieceEnd(std::string_view piece) {
  // Both bytes of a line end after the token must be visible.
  const size_t behind = kEndOfTextToken.size() + 2;
  const size_t token = piece.size() < behind ? kNone : piece.rfind(kEndOfTextToken, piece.size() - behind);
  if (token != kNone) {
    const size_t end = token + kEndOfTextToken.size();
    return end + LineEndBytes(piece.substr(end));
  }
  if (const size_t border = LastLineBorder(piece); border > 0) return border;
  // Cut neither within a token nor within a character.
  size_t cut = piece.rfind('<');
  if (cut == kNone || !kEndOfTextToken.starts_with(piece.substr(cut))) {
    cut = piece.size();
    for (int i = 0; i < 4 && cut > 0; ++i) {
      if (!ContinuesCharacter(piece[--cut])) break;
    }
  }
  return cut > 0 ? cut : piece.size();
}

}  // namespace angel_ptm
