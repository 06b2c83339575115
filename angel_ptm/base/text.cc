#include "angel_ptm/base/text.h"

#include <charconv>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace angel_ptm {
namespace {

std::string ThreeDigits(double value) {
  if (value >= 100) return absl::StrFormat("%.0f", value);
  if (value >= 10) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.2f", value);
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024 && bytes > -1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes < 0 ? -bytes : bytes) / 1024;
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return absl::StrCat(bytes < 0 ? "-" : "", ThreeDigits(value), " ", kUnits[unit]);
}

std::optional<int64_t> ParseBytes(std::string_view text) {
  constexpr std::string_view kPrefixes = "KMGTP";
  int64_t bytes = 0;
  if (absl::SimpleAtoi(std::string(text), &bytes)) return bytes;
  if (text.size() < 3 || text.back() != 'B') return std::nullopt;
  text.remove_suffix(1);
  const bool binary = text.back() == 'i';
  if (binary) text.remove_suffix(1);
  const char prefix = !binary && text.back() == 'k' ? 'K' : text.back();
  const size_t power = kPrefixes.find(prefix);
  double value = 0;
  if (power == std::string_view::npos) return std::nullopt;
  text.remove_suffix(1);
  if (!absl::SimpleAtod(std::string(text), &value)) return std::nullopt;
  for (size_t i = 0; i <= power; ++i) value *= binary ? 1024 : 1000;
  constexpr double kExact = static_cast<double>(int64_t{1} << 53);
  if (!(std::fabs(value) < kExact) || value != std::floor(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string Counted(int64_t count, std::string_view noun, std::string_view plural) {
  return absl::StrCat(count, " ", std::string(noun), count == 1 ? std::string() : std::string(plural));
}

std::string FormatCount(double count) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P", " E"};
  int unit = 0;
  while (std::fabs(count) >= 1000 && unit < 6) {
    count /= 1000;
    ++unit;
  }
  if (unit == 0) return absl::StrFormat("%.0f", count);
  return absl::StrCat(ThreeDigits(count), kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (!(seconds < 1e9)) return "?";
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  if (s < 3600) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  return absl::StrFormat("%dh%02dm", s / 3600, s % 3600 / 60);
}

std::string FormatExact(double value) {
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

bool MatchesPattern(std::string_view text, std::string_view pattern) {
  // star: the position of the last *. On a mismatch the text that this * matches, which ends at taken_to, grows by one.
  size_t t = 0, p = 0, star = std::string_view::npos, taken_to = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken_to = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken_to;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace angel_ptm
