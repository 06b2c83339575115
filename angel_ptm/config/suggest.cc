#include "angel_ptm/config/suggest.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace angel_ptm {

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);  // row[j]: distance from the first i bytes of a to the first j bytes of b
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

const std::string* NearestName(const std::string& wrong, const std::vector<std::string>& valid) {
  const std::string* nearest = nullptr;
  size_t least = std::max<size_t>(2, wrong.size() / 2) + 1;  // more distant names are not typing mistakes
  const std::string lower = absl::AsciiStrToLower(wrong);
  for (const std::string& name : valid) {
    const std::string lower_name = absl::AsciiStrToLower(name);
    // A name that begins with `wrong` counts as distance 1; among several such names the shortest wins.
    const bool begins = !lower.empty() && lower_name.compare(0, lower.size(), lower) == 0;
    const size_t distance = begins ? 1 : EditDistance(lower, lower_name);
    if (distance < least || (distance == least && nearest != nullptr && begins && name.size() < nearest->size())) {
      least = distance;
      nearest = &name;
    }
  }
  return nearest;
}

std::string SuggestName(const std::string& wrong, const std::vector<std::string>& valid) {
  const std::string* const nearest = NearestName(wrong, valid);
  const std::string list = absl::StrCat("valid names: ", absl::StrJoin(valid, ", "));
  return nearest == nullptr ? list : absl::StrCat("did you mean '", *nearest, "'? ", list);
}

}  // namespace angel_ptm
