#include "angel_ptm/data/images/image_listing.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {

absl::StatusOr<std::string> CheckedCaption(std::string_view text, const std::string& where) {
  const size_t valid = ValidUtf8Prefix(text);
  if (valid < text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": a caption should be UTF-8, got another byte behind ", valid, " that are"));
  }
  const absl::string_view stripped = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  if (stripped.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": a caption should say something, got an empty one"));
  }
  return std::string(stripped);
}

int32_t IdOf(const std::string& name, std::vector<std::string>* names) {
  const auto found = std::find(names->begin(), names->end(), name);
  if (found != names->end()) return static_cast<int32_t>(found - names->begin());
  names->push_back(name);
  return static_cast<int32_t>(names->size()) - 1;
}

}  // namespace angel_ptm
