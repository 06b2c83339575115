#include <oniguruma.h>

#include <limits>
#include <string>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/data/patterns/regex.h"

namespace angel_ptm {
namespace {

const OnigUChar* Bytes(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

std::string ErrorText(int code, OnigErrorInfo* info) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int size = onig_error_code_to_str(text, code, info);
  return std::string(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
}

class OnigurumaRegex : public Regex {
 public:
  explicit OnigurumaRegex(regex_t* regex) : regex_(regex) {}
  ~OnigurumaRegex() override { onig_free(regex_); }
  OnigurumaRegex(const OnigurumaRegex&) = delete;
  OnigurumaRegex& operator=(const OnigurumaRegex&) = delete;

  std::optional<Match> Find(std::string_view text, size_t from) const override {
    const std::unique_ptr<OnigRegion, decltype([](OnigRegion* region) { onig_region_free(region, 1); })> region(
        onig_region_new());
    const OnigUChar* end = Bytes(text) + text.size();
    const int found = onig_search(regex_, Bytes(text), end, Bytes(text) + from, end, region.get(), ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) return std::nullopt;
    APTM_CHECK(found >= 0, ErrorText(found, nullptr));
    return Match{static_cast<size_t>(region->beg[0]), static_cast<size_t>(region->end[0])};
  }

 private:
  regex_t* const regex_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Compile(std::string_view pattern, bool literal) {
  static const int initialised = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_set_retry_limit_in_match(std::numeric_limits<unsigned long>::max());  // NOLINT(google-runtime-int): its type
    return onig_initialize(encodings, 1);
  }();
  APTM_CHECK(initialised == ONIG_NORMAL, initialised);
  regex_t* regex = nullptr;
  OnigErrorInfo info;
  const int code = onig_new(&regex, Bytes(pattern), Bytes(pattern) + pattern.size(), ONIG_OPTION_NONE,
                            ONIG_ENCODING_UTF8, literal ? ONIG_SYNTAX_ASIS : ONIG_SYNTAX_RUBY, &info);
  if (code != ONIG_NORMAL) return absl::InvalidArgumentError(ErrorText(code, &info));
  return std::make_unique<const OnigurumaRegex>(regex);
}

}  // namespace angel_ptm
