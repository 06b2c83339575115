#include "angel_ptm/train/tasks/prompt_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/data/encoding.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

bool IsJsonLines(const std::string& path) { return path.ends_with(".jsonl"); }

// Calls `take` with each line of a text file and its place in words. Errors name `flag` and call the lines' content
// `what`.
absl::Status ForEachLine(const std::string& path, const char* flag, const char* what,
                         absl::FunctionRef<absl::Status(const std::string& line, const std::string& where)> take) {
  if (!path.ends_with(".txt") && !IsJsonLines(path)) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": wanted a file .txt or .jsonl, got ", path));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  int64_t lines = 0;
  for (size_t at = text.starts_with(kUtf8Mark) ? kUtf8Mark.size() : 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    const std::string where = absl::StrCat(path, ", line ", ++lines);
    if (ValidUtf8Prefix(line) != line.size()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": wanted a ", what, " in UTF-8, got other bytes"));
    }
    RETURN_IF_ERROR(take(line, where));
  }
  if (lines > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", what, "s, got an empty file"));
}

absl::Status NotEmpty(const std::string& text, const std::string& where, const char* what) {
  if (text.find_first_not_of(" \t") != std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": wanted a ", what, ", got an empty one"));
}

// The object in `line`, or null if it is not one.
nlohmann::json ObjectOf(const std::string& line) {
  const nlohmann::json parsed = ParseJson(line);
  return parsed.is_object() ? parsed : nlohmann::json();
}

absl::StatusOr<std::string> CaptionOfObject(const std::string& line, const std::string& where) {
  const nlohmann::json object = ObjectOf(line);
  for (const char* key : {"text", "caption"}) {
    if (object.contains(key) && object[key].is_string()) return object[key].get<std::string>();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": wanted a JSON object with a text \"text\" or \"caption\", got none"));
}

absl::StatusOr<Prompt> PromptOfObject(const std::string& line, const std::string& where) {
  const nlohmann::json object = ObjectOf(line);
  Prompt prompt;
  bool has_text = false;
  for (const auto& [key, value] : object.items()) {
    if (key == "prompt" && value.is_string()) {
      prompt.text = value.get<std::string>();
      has_text = true;
    } else if (key == "negative" && value.is_string()) {
      prompt.negative = value.get<std::string>();
    } else if (key == "seed" && value.is_number_unsigned()) {
      prompt.seed = value.get<uint64_t>();
    } else if (key == "size" && value.is_string()) {
      prompt.size = value.get<std::string>();
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": wanted \"prompt\", \"negative\" and \"size\" with a text, \"seed\" with a whole number, ", "got \"",
          key, "\": ", value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    }
  }
  if (has_text) return prompt;
  return absl::InvalidArgumentError(absl::StrCat(where, ": wanted a JSON object with a text \"prompt\", got none"));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadCaptions(const std::string& path) {
  std::vector<std::string> captions;
  const auto take = [&](const std::string& line, const std::string& where) {
    absl::StatusOr<std::string> caption = IsJsonLines(path) ? CaptionOfObject(line, where) : line;
    RETURN_IF_ERROR(caption.status());
    RETURN_IF_ERROR(NotEmpty(*caption, where, "caption"));
    captions.push_back(*std::move(caption));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachLine(path, "--captions", "caption", take));
  return captions;
}

absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path) {
  std::vector<Prompt> prompts;
  const auto take = [&](const std::string& line, const std::string& where) {
    absl::StatusOr<Prompt> prompt = IsJsonLines(path) ? PromptOfObject(line, where) : Prompt{.text = line};
    RETURN_IF_ERROR(prompt.status());
    RETURN_IF_ERROR(NotEmpty(prompt->text, where, "prompt"));
    prompts.push_back(*std::move(prompt));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachLine(path, "--prompts", "prompt", take));
  return prompts;
}

}  // namespace angel_ptm
