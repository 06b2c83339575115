#include "angel_ptm/data/pretokenizer.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "angel_ptm/data/unicode_classes.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

enum class CharacterClass : uint8_t { kOther, kLetter, kNumber, kSpace };

// Classes by code point.
std::vector<CharacterClass> MakeClasses() {
  // Unicode's white space, without U+180E, which version 6.3 removed.
  constexpr CodePointRange kSpaces[] = {{0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                        {0x205F, 0x205F}, {0x3000, 0x3000}};
  std::vector<CharacterClass> classes(0x110000, CharacterClass::kOther);
  const auto set = [&](std::span<const CodePointRange> ranges, CharacterClass value) {
    for (const CodePointRange& range : ranges) {
      std::fill(classes.begin() + range.first, classes.begin() + range.last + 1, value);
    }
  };
  set(LetterRanges(), CharacterClass::kLetter);
  set(NumberRanges(), CharacterClass::kNumber);
  set(kSpaces, CharacterClass::kSpace);
  return classes;
}

// The class of the character at `*at`; moves `*at` past it.
CharacterClass ClassAt(std::string_view text, size_t* at) {
  static const std::vector<CharacterClass> classes = MakeClasses();
  const auto byte = static_cast<unsigned char>(text[*at]);
  if (byte >= 0x80) return classes[NextCodePoint(text, at)];
  ++*at;
  return classes[byte];
}

// The end of the run of characters of this class that begins at `at`.
size_t RunEnd(std::string_view text, size_t at, CharacterClass of) {
  while (at < text.size()) {
    size_t next = at;
    if (ClassAt(text, &next) != of) break;
    at = next;
  }
  return at;
}

// Bytes of the white space at the start of the text. Excludes its last character if a word follows, which may take it.
size_t SpaceBytes(std::string_view text) {
  size_t last = 0, at = 0;
  while (at < text.size()) {
    size_t next = at;
    if (ClassAt(text, &next) != CharacterClass::kSpace) return last > 0 ? last : at;
    last = at;
    at = next;
  }
  return at;
}

// Bytes of the first word of the text, which must not be empty.
size_t WordBytes(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  const size_t begin = text[0] == ' ' ? 1 : 0;
  if (begin == text.size()) return begin;
  size_t next = begin;
  const CharacterClass first = ClassAt(text, &next);
  return first == CharacterClass::kSpace ? SpaceBytes(text) : RunEnd(text, next, first);
}

}  // namespace

std::string_view Pretokenizer::Next() {
  if (rest_.empty()) return {};
  const std::string_view word = rest_.substr(0, WordBytes(rest_));
  rest_.remove_prefix(word.size());
  return word;
}

}  // namespace angel_ptm
