#include "angel_ptm/base/check.h"
#include "angel_ptm/data/patterns/normal_form.h"
#include "angel_ptm/data/patterns/regex.h"

namespace angel_ptm {

bool HasPatternLibraries() { return false; }

std::string NormalFormC(std::string_view) {
  APTM_CHECK(false, "this build has no utf8proc");
  return {};
}

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Compile(std::string_view, bool) {
  return absl::UnimplementedError("this build has no PCRE2 to cut text into words with");
}

}  // namespace angel_ptm
