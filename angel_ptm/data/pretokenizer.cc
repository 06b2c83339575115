#define PCRE2_CODE_UNIT_WIDTH 8
#include "angel_ptm/data/pretokenizer.h"

#include <pcre2.h>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// White space is spelled out because PCRE2's \s also holds U+180E, which Unicode (and Hugging Face) took out in 6.3.
#define APTM_SPACE R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
constexpr char kPattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{L}\p{N})" APTM_SPACE "]+|[" APTM_SPACE
                            "]+(?![^" APTM_SPACE "])|[" APTM_SPACE "]+";
#undef APTM_SPACE

}  // namespace

struct Pretokenizer::Pattern {
  pcre2_code* code = nullptr;
  bool jit = false;
};

Pretokenizer::Pretokenizer() : pattern_(std::make_unique<Pattern>()) {
  int error = 0;
  PCRE2_SIZE error_at = 0;
  pattern_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), sizeof(kPattern) - 1, PCRE2_UTF | PCRE2_UCP,
                                 &error, &error_at, nullptr);
  APTM_CHECK(pattern_->code != nullptr, "PCRE2 refuses the pre-tokenisation pattern: error ", error, " at ", error_at);
  // Machines that forbid writable executable memory have no JIT; the interpreter gives the same words.
  pattern_->jit = pcre2_jit_compile(pattern_->code, PCRE2_JIT_COMPLETE) == 0;
}

Pretokenizer::~Pretokenizer() { pcre2_code_free(pattern_->code); }

struct Pretokenizer::Cursor::State {
  const Pattern* pattern;
  pcre2_match_data* match;
  std::string_view text;
  size_t at = 0;

  ~State() { pcre2_match_data_free(match); }
};

Pretokenizer::Cursor::Cursor(const Pretokenizer& pretokenizer) : state_(std::make_unique<State>()) {
  state_->pattern = pretokenizer.pattern_.get();
  state_->match = pcre2_match_data_create(1, nullptr);
  APTM_CHECK(state_->match != nullptr);
}
Pretokenizer::Cursor::~Cursor() = default;
Pretokenizer::Cursor::Cursor(Cursor&&) noexcept = default;
Pretokenizer::Cursor& Pretokenizer::Cursor::operator=(Cursor&&) noexcept = default;

void Pretokenizer::Cursor::Reset(std::string_view text) {
  state_->text = text;
  state_->at = 0;
}

std::string_view Pretokenizer::Cursor::Next() {
  State& s = *state_;
  if (s.at == s.text.size()) return {};
  const auto subject = reinterpret_cast<PCRE2_SPTR>(s.text.data());
  const auto match = s.pattern->jit ? pcre2_jit_match : pcre2_match;
  const int result = match(s.pattern->code, subject, s.text.size(), s.at, PCRE2_NO_UTF_CHECK, s.match, nullptr);
  const PCRE2_SIZE* const span = pcre2_get_ovector_pointer(s.match);
  // Letters, numbers, white space and everything else each have their alternative: some match starts at every position.
  APTM_CHECK(result == 1 && span[0] == s.at && span[1] > s.at, "PCRE2 match result ", result, " at byte ", s.at);
  const std::string_view word = s.text.substr(span[0], span[1] - span[0]);
  s.at = span[1];
  return word;
}

}  // namespace angel_ptm
