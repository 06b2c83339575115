// Human-readable text: byte counts, large numbers, durations.
#ifndef ANGEL_PTM_BASE_TEXT_H_
#define ANGEL_PTM_BASE_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace angel_ptm {

// "512 B", "4.00 KiB", "1.50 GiB": binary units, three significant digits.
std::string FormatBytes(int64_t bytes);

// Parses texts such as "1073741824", "1GiB", "1.5 GiB" and "80GB": an integer number of bytes, or a number with a unit,
// which is KiB to PiB (powers of 1,024) or kB, KB to PB (powers of 1,000). Returns nullopt for any other text, for
// fractions of a byte, and for values with a unit whose magnitude is 2^53 bytes or more.
std::optional<int64_t> ParseBytes(std::string_view text);

// "950", "22.8 M", "1.30 T": decimal units for counts of parameters, tokens and FLOPs.
std::string FormatCount(double count);

// "1 rank", "2 ranks". `plural` is the ending of the plural, such as "es".
std::string Counted(int64_t count, std::string_view noun, std::string_view plural = "s");

// "12.3 s", "4m05s", "3h12m".
std::string FormatSeconds(double seconds);

// The shortest decimal text that reads back as the same double, so equal bits print alike and different bits
// differently.
std::string FormatExact(double value);

// Whether the whole text matches the pattern, in which * stands for any characters, including none.
bool MatchesPattern(std::string_view text, std::string_view pattern);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_TEXT_H_
