#include "angel_ptm/data/jsonl.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

constexpr char kTextKey[] = "text";

// What an object has instead of a text.
std::string KeysOf(const nlohmann::json& object) {
  constexpr size_t kNamedMax = 8;
  std::string keys;
  size_t named = 0;
  for (auto it = object.begin(); it != object.end() && named < kNamedMax; ++it, ++named) {
    absl::StrAppend(&keys, named == 0 ? "" : ", ", it.key());
  }
  return keys.empty() ? "an empty one" : absl::StrCat("one with ", keys, object.size() > named ? ", ..." : "");
}

absl::StatusOr<std::string> TextOfLine(std::string_view line) {
  const nlohmann::json json = ParseJson(line);
  constexpr char kWanted[] = "wanted a JSON object with a string \"text\", got ";
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(kWanted, "no JSON"));
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(kWanted, json.type_name()));
  const auto text = json.find(kTextKey);
  if (text == json.end()) return absl::InvalidArgumentError(absl::StrCat(kWanted, KeysOf(json)));
  if (!text->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(kWanted, "one whose \"text\" is ", text->type_name()));
  }
  return text->get<std::string>();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> TextsOfJsonl(std::string_view lines, const std::string& file, int64_t line) {
  std::vector<std::string> texts;
  for (; !lines.empty(); ++line) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view one = lines.substr(0, end);
    lines.remove_prefix(std::min(lines.size(), end + 1));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    absl::StatusOr<std::string> text = TextOfLine(one);
    if (!text.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ", line ", line, ": ", text.status().message()));
    }
    texts.push_back(*std::move(text));
  }
  return texts;
}

}  // namespace angel_ptm
