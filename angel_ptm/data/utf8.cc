#include "angel_ptm/data/utf8.h"

#include <cstring>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Examines text[at..]. Returns the length of a valid sequence, or 0 and sets *ill_formed to the length of the maximal
// ill-formed subsequence (1 to 3 bytes).
size_t SequenceLength(std::string_view text, size_t at, size_t* ill_formed) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  *ill_formed = 1;
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and code points above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return 0;
    const unsigned minimum = i == 1 ? low : 0x80, maximum = i == 1 ? high : 0xBF;
    if (byte(i) < minimum || byte(i) > maximum) return 0;
    *ill_formed = i + 1;
  }
  return length;
}

}  // namespace

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    // Eight ASCII bytes at a time.
    uint64_t word;
    while (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if (word & 0x8080808080808080u) break;
      at += sizeof(word);
    }
    if (at == text.size()) break;
    size_t ill_formed;
    const size_t length = SequenceLength(text, at, &ill_formed);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

std::string ReplaceInvalidUtf8(std::string_view text, int64_t* replaced) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const size_t valid = ValidUtf8Prefix(text);
    result.append(text.substr(0, valid));
    if (valid == text.size()) return result;
    size_t ill_formed;
    SequenceLength(text, valid, &ill_formed);
    AppendUtf8(0xFFFD, &result);
    if (replaced != nullptr) ++*replaced;
    text.remove_prefix(valid + ill_formed);
  }
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  APTM_CHECK(code_point < 0x110000 && (code_point < 0xD800 || code_point > 0xDFFF), code_point);
  const auto append = [&](uint32_t byte) { text->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return append(code_point);
  if (code_point < 0x800) {
    append(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      append(0xE0 | code_point >> 12);
    } else {
      append(0xF0 | code_point >> 18);
      append(0x80 | (code_point >> 12 & 0x3F));
    }
    append(0x80 | (code_point >> 6 & 0x3F));
  }
  append(0x80 | (code_point & 0x3F));
}

uint32_t NextCodePoint(std::string_view valid_text, size_t* at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(valid_text[*at + i])); };
  const uint32_t lead = byte(0);
  const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint32_t code_point = length == 1 ? lead : lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte(i) & 0x3F);
  *at += length;
  return code_point;
}

}  // namespace angel_ptm
