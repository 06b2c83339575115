#include "launch/arguments.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/suggest.h"

namespace angel_ptm {
namespace {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// "--set=a=b" -> "set"
std::string NameOf(const std::string& word) {
  const size_t begin = word.find_first_not_of('-');
  return begin == std::string::npos ? "" : word.substr(begin, word.find('=') - begin);
}

absl::Status Unknown(const std::string& word, const ArgumentSpec& spec) {
  std::vector<std::string> known = spec.flags;
  known.insert(known.end(), spec.switches.begin(), spec.switches.end());
  const std::string* const nearest = absl::StartsWith(word, "-") ? NearestName(NameOf(word), known) : nullptr;
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown argument ", word, "; ", nearest == nullptr ? "" : absl::StrCat("did you mean --", *nearest, "? "),
      "this command takes ", spec.positional_max > 0 ? absl::StrCat(spec.positional, ", ") : "", "--",
      absl::StrJoin(known, ", --")));
}

}  // namespace

absl::StatusOr<Arguments> Arguments::Parse(const std::vector<std::string>& words, const ArgumentSpec& spec) {
  Arguments result;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      if (static_cast<int>(result.positional_.size()) == spec.positional_max) return Unknown(word, spec);
      result.positional_.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = NameOf(word);
    if (word[1] != '-') return Unknown(word, spec);
    if (Contains(spec.switches, name) && equals == std::string::npos) {
      result.values_[name];
    } else if (!Contains(spec.flags, name)) {
      return Unknown(word, spec);
    } else if (equals != std::string::npos) {
      result.values_[name].push_back(word.substr(equals + 1));
    } else if (i + 1 == words.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    } else {
      result.values_[name].push_back(words[++i]);
    }
  }
  return result;
}

std::vector<std::string> Arguments::All(const std::string& flag) const {
  const auto it = values_.find(flag);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

std::string Arguments::Get(const std::string& flag, const std::string& fallback) const {
  const auto it = values_.find(flag);
  return it == values_.end() || it->second.empty() ? fallback : it->second.back();
}

absl::StatusOr<std::string> Arguments::Require(const std::string& flag) const {
  if (!Has(flag)) return absl::InvalidArgumentError(absl::StrCat("--", flag, " is missing"));
  return Get(flag, "");
}

absl::StatusOr<int64_t> Arguments::GetInt(const std::string& flag, int64_t fallback) const {
  int64_t value = fallback;
  if (Has(flag) && !absl::SimpleAtoi(Get(flag, ""), &value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted a whole number, got ", Get(flag, "")));
  }
  return value;
}

absl::StatusOr<int64_t> Arguments::GetBytes(const std::string& flag, int64_t fallback) const {
  if (!Has(flag)) return fallback;
  if (const std::optional<int64_t> bytes = ParseBytes(Get(flag, ""))) return *bytes;
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, ": wanted bytes as a whole number or with a unit (512MiB, 1.5GiB, 80GB), got ", Get(flag, "")));
}

absl::StatusOr<uint64_t> Arguments::GetUint(const std::string& flag, uint64_t fallback) const {
  uint64_t value = fallback;
  if (Has(flag) && !absl::SimpleAtoi(Get(flag, ""), &value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted a whole number from 0 to ",
                                                   std::numeric_limits<uint64_t>::max(), ", got ", Get(flag, "")));
  }
  return value;
}

absl::StatusOr<double> Arguments::GetDouble(const std::string& flag, double fallback) const {
  double value = fallback;
  if (Has(flag) && !absl::SimpleAtod(Get(flag, ""), &value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted a number, got ", Get(flag, "")));
  }
  return value;
}

}  // namespace angel_ptm
