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

// The keys that an object has instead of a text.
std::string KeysOf(const nlohmann::json& object) {
  constexpr size_t kNamedMax = 8;
  std::string keys;
  size_t named = 0;
  for (auto it = object.begin(); it != object.end() && named < kNamedMax; ++it, ++named) {
    absl::StrAppend(&keys, named == 0 ? "" : ", ", it.key());
  }
  return keys.empty() ? "an empty one" : absl::StrCat("one with ", keys, object.size() > named ? ", ..." : "");
}

// Parses only to find what is wrong.
class Fault final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    what = error.what();
    return false;
  }
  std::string what;
};

// Where and why a line is not JSON, in the parser's words but without the line itself, which may be long.
std::string FaultOf(std::string_view line) {
  if (NestsTooDeep(line)) return absl::StrCat("it nests deeper than ", kJsonNestingMax, " levels");
  Fault fault;
  nlohmann::json::sax_parse(line, &fault);
  const size_t begin = fault.what.find("column ");
  return begin == std::string::npos ? fault.what
                                    : fault.what.substr(begin, fault.what.find("; last read: ", begin) - begin);
}

absl::StatusOr<std::string> TextOfLine(std::string_view line) {
  const nlohmann::json json = ParseJson(line);
  constexpr char kWanted[] = "wanted a JSON object with a string \"text\", got ";
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(kWanted, "no JSON: ", FaultOf(line)));
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
