// Regular expressions of tokenizers, by PCRE2 over UTF-8. Hugging Face's tokenizers use Oniguruma, but its packaged
// library would replace the C library's regcomp and regexec in every program that links it. The patterns that
// tokenizers use mean the same to both.
#ifndef ANGEL_PTM_DATA_PATTERNS_REGEX_H_
#define ANGEL_PTM_DATA_PATTERNS_REGEX_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Immutable and thread-safe.
class Regex {
 public:
  struct Match {
    size_t begin = 0, end = 0;  // in bytes
  };

  // `literal`: the characters of the pattern stand for themselves. Errors: kInvalidArgument with what is wrong in the
  // pattern; kUnimplemented if this build has no PCRE2.
  static absl::StatusOr<std::unique_ptr<const Regex>> Compile(std::string_view pattern, bool literal);
  virtual ~Regex() = default;

  // Calls `found` with one match after the other in `text`, which must be valid UTF-8. The search continues at the end
  // of a match, or one character later if the match was empty. Backtracking is not limited.
  virtual void ForEachMatch(std::string_view text, const std::function<void(Match)>& found) const = 0;

 protected:
  Regex() = default;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PATTERNS_REGEX_H_
