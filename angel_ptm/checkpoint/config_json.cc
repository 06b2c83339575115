#include "angel_ptm/checkpoint/config_json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"

namespace angel_ptm {
namespace {

bool IsCount(const nlohmann::json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() >= 1 &&
         value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
}

}  // namespace

absl::StatusOr<ConfigJson> ConfigJson::Open(std::string path, std::string_view defaults) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const nlohmann::json given = ParseJson(text);
  if (!given.is_object()) return absl::DataLossError(absl::StrCat(path, " is not a JSON object"));
  nlohmann::json all = ParseJson(defaults);
  APTM_CHECK(all.is_object(), std::string(defaults));
  all.update(given);
  return FromFields(std::move(path), all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

ConfigJson ConfigJson::FromFields(std::string path, std::string_view text) {
  ConfigJson config;
  config.path_ = std::move(path);
  const nlohmann::json all = ParseJson(text);
  for (const auto& [field, value] : all.items()) config.fields_[field] = value.dump();
  return config;
}

std::string ConfigJson::Text(std::string_view field) const {
  const auto it = fields_.find(field);
  return it == fields_.end() ? "null" : it->second;
}

absl::Status ConfigJson::Differs(std::string_view field, std::string_view wanted) const {
  return absl::FailedPreconditionError(absl::StrCat(path_, ": ", std::string(field),
                                                    ": the configuration is of another model, wanted ",
                                                    std::string(wanted), ", got ", Text(field)));
}

absl::Status ConfigJson::Require(std::string_view field, std::string_view wanted) const {
  return RequireOneOf(field, {std::string(wanted)});
}

absl::Status ConfigJson::RequireOneOf(std::string_view field, const std::vector<std::string>& wanted) const {
  const nlohmann::json there = ParseJson(Text(field));
  const auto equals = [&](const std::string& text) { return ParseJson(text) == there; };
  return std::ranges::any_of(wanted, equals) ? absl::OkStatus() : Differs(field, absl::StrJoin(wanted, " or "));
}

absl::StatusOr<int64_t> ConfigJson::Count(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!IsCount(there)) return Differs(field, "a whole number of 1 to 2147483647");
  return there.get<int64_t>();
}

absl::StatusOr<std::vector<int64_t>> ConfigJson::Counts(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!there.is_array() || there.empty() || !std::ranges::all_of(there, &IsCount)) {
    return Differs(field, "whole numbers of 1 to 2147483647");
  }
  return there.get<std::vector<int64_t>>();
}

absl::StatusOr<int64_t> ConfigJson::CountOfLayers(std::string_view field) const {
  if (!ParseJson(Text(field)).is_array()) return Count(field);
  ASSIGN_OR_RETURN(const std::vector<int64_t> counts, Counts(field));
  if (std::ranges::any_of(counts, [&](int64_t count) { return count != counts[0]; })) {
    return Differs(field, "the same number for all layers");
  }
  return counts[0];
}

absl::StatusOr<double> ConfigJson::Number(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!there.is_number()) return Differs(field, "a number");
  return there.get<double>();
}

absl::StatusOr<std::vector<double>> ConfigJson::Numbers(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!there.is_array() || !std::ranges::all_of(there, [](const nlohmann::json& value) { return value.is_number(); })) {
    return Differs(field, "a list of numbers");
  }
  return there.get<std::vector<double>>();
}

absl::StatusOr<bool> ConfigJson::Bool(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!there.is_boolean()) return Differs(field, "true or false");
  return there.get<bool>();
}

bool ConfigJson::IsNull(std::string_view field) const { return ParseJson(Text(field)).is_null(); }

absl::StatusOr<ConfigJson> ConfigJson::Object(std::string_view field) const {
  const nlohmann::json there = ParseJson(Text(field));
  if (!there.is_object()) return Differs(field, "an object");
  return FromFields(absl::StrCat(path_, ": ", std::string(field)), there.dump());
}

}  // namespace angel_ptm
