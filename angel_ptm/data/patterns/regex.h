// Regular expressions of tokenizers, by PCRE2 over UTF-8. Hugging Face's tokenizers compile theirs with Oniguruma,
// whose distributed library would put its own regcomp and regexec in the place of the C library's in every program that
// links it; what tokenizers write means the same to both.
#ifndef ANGEL_PTM_DATA_PATTERNS_REGEX_H_
#define ANGEL_PTM_DATA_PATTERNS_REGEX_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Immutable; threads share one.
class Regex {
 public:
  struct Match {
    size_t begin = 0, end = 0;  // in bytes
  };

  // `literal`: the pattern's characters stand for themselves. Errors: kInvalidArgument with what is wrong in the
  // pattern; kUnimplemented where this build has no PCRE2.
  static absl::StatusOr<std::unique_ptr<const Regex>> Compile(std::string_view pattern, bool literal);
  virtual ~Regex() = default;

  // Calls `found` with the matches in valid UTF-8 one after the other, each from the end of the one before on, or a
  // character behind it if that was empty. However long the pattern has to backtrack for it.
  virtual void ForEachMatch(std::string_view text, const std::function<void(Match)>& found) const = 0;

 protected:
  Regex() = default;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PATTERNS_REGEX_H_
