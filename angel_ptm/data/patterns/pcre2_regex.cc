#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <iterator>
#include <string>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/data/patterns/regex.h"

namespace angel_ptm {
namespace {

PCRE2_SPTR Units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

size_t CharacterEnd(std::string_view text, size_t at) {
  while (++at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
  }
  return at;
}

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, std::size(text));
  return reinterpret_cast<const char*>(text);
}

using Code = std::unique_ptr<pcre2_code, decltype([](pcre2_code* code) { pcre2_code_free(code); })>;
using MatchData =
    std::unique_ptr<pcre2_match_data, decltype([](pcre2_match_data* data) { pcre2_match_data_free(data); })>;
using MatchContext = std::unique_ptr<pcre2_match_context,
                                     decltype([](pcre2_match_context* context) { pcre2_match_context_free(context); })>;

// Makes \s match Unicode's white space; PCRE2's also matches U+180E, as Perl's once did.
std::string WithUnicodeSpaces(std::string_view pattern) {
  std::string result;
  for (size_t i = 0; i < pattern.size(); ++i) {
    result += pattern[i];
    if (pattern[i] != '\\' || i + 1 == pattern.size()) continue;
    const char escaped = pattern[++i];
    if (escaped == 's' || escaped == 'S') {
      result += escaped == 's' ? "p{White_Space}" : "P{White_Space}";
    } else {
      result += escaped;
    }
  }
  return result;
}

class Pcre2Regex : public Regex {
 public:
  explicit Pcre2Regex(Code code) : code_(std::move(code)), unlimited_(pcre2_match_context_create(nullptr)) {
    APTM_CHECK(unlimited_ != nullptr);
    pcre2_set_match_limit(unlimited_.get(), ~uint32_t{0});
    pcre2_set_depth_limit(unlimited_.get(), ~uint32_t{0});
    pcre2_set_heap_limit(unlimited_.get(), ~uint32_t{0});
  }

  void ForEachMatch(std::string_view text, const std::function<void(Match)>& found) const override {
    const MatchData data(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    APTM_CHECK(data != nullptr);
    const PCRE2_SIZE* const at = pcre2_get_ovector_pointer(data.get());
    for (size_t from = 0; from < text.size();) {
      const int count =
          pcre2_match(code_.get(), Units(text), text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), unlimited_.get());
      if (count == PCRE2_ERROR_NOMATCH) return;
      APTM_CHECK(count > 0, ErrorText(count));
      found({at[0], at[1]});
      from = at[1] > at[0] ? at[1] : CharacterEnd(text, at[1]);
    }
  }

 private:
  const Code code_;
  const MatchContext unlimited_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Compile(std::string_view pattern, bool literal) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
  const std::string text = literal ? std::string(pattern) : WithUnicodeSpaces(pattern);
  Code code(pcre2_compile(Units(text), text.size(), options, &error, &offset, nullptr));
  if (code == nullptr) return absl::InvalidArgumentError(ErrorText(error));
  return std::make_unique<const Pcre2Regex>(std::move(code));
}

}  // namespace angel_ptm
