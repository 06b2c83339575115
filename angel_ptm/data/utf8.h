// The UTF-8 functions that the tokenizer needs.
#ifndef ANGEL_PTM_DATA_UTF8_H_
#define ANGEL_PTM_DATA_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace angel_ptm {

// The length of the longest valid UTF-8 prefix of `text` (Unicode 15, table 3-7: no surrogates, no overlong forms).
size_t ValidUtf8Prefix(std::string_view text);

// Returns `text` with every maximal ill-formed subsequence replaced by U+FFFD (Unicode 15, section 3.9; as Python's
// errors="replace" and Rust's from_utf8_lossy do). Adds the number of replacements to *replaced if it is not null.
std::string ReplaceInvalidUtf8(std::string_view text, int64_t* replaced = nullptr);

// Appends the UTF-8 form of a code point, which must be at most U+10FFFF and not a surrogate.
void AppendUtf8(uint32_t code_point, std::string* text);

// Reads the code point at *at, which must start a valid sequence, and advances *at past it.
uint32_t NextCodePoint(std::string_view valid_text, size_t* at);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_UTF8_H_
