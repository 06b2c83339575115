#include "angel_ptm/model/parameter_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

template <typename T>
int32_t Find(const std::vector<T>& rows, const char* what, const std::string& name, int32_t from) {
  const auto it = std::find_if(rows.begin() + from, rows.end(), [&](const T& row) { return row.name == name; });
  APTM_CHECK(it != rows.end(), "the run's table has no ", what, " ", name,
             from > 0 ? absl::StrCat(" behind ", rows[from - 1].name) : "");
  return static_cast<int32_t>(it - rows.begin());
}

}  // namespace

std::string_view PatternName(const Unit& unit) {
  const std::string_view name = unit.name;
  return unit.is_experts ? name.substr(0, name.rfind('.')) : name;
}

bool IsMeant(const Unit& unit, std::string_view pattern) { return MatchesPattern(PatternName(unit), pattern); }

int64_t ParameterTable::ParameterCount() const {
  int64_t count = 0;
  for (const Parameter& p : parameters) count += p.shape.elements();
  return count;
}

UnitId ParameterTable::AddUnit(Unit unit) {
  units.push_back(std::move(unit));
  return static_cast<UnitId>(units.size()) - 1;
}

ParameterId ParameterTable::AddParameter(Parameter parameter) {
  Unit& unit = units[parameter.unit];
  parameter.unit_offset = (unit.elements + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
  unit.elements = parameter.unit_offset + parameter.shape.elements();
  unit.parameters.push_back(static_cast<ParameterId>(parameters.size()));
  parameters.push_back(std::move(parameter));
  return unit.parameters.back();
}

UnitId ParameterTable::MatchUnit(const Unit& unit, UnitId from) const {
  const UnitId u = Find(units, "unit", unit.name, from);
  APTM_CHECK(units[u].trainable == unit.trainable, "unit ", unit.name, " is ", unit.trainable ? "trained" : "frozen",
             " here, not in the run's table");
  APTM_CHECK(units[u].is_experts == unit.is_experts, "unit ", unit.name, " is of experts here or in the run's table");
  return u;
}

ParameterId ParameterTable::MatchParameter(Parameter parameter, ParameterId from) const {
  const ParameterId p = Find(parameters, "parameter", parameter.name, from);
  const Parameter& have = parameters[p];
  parameter.unit_offset = have.unit_offset;
  APTM_CHECK(parameter == have, "parameter ", parameter.name, " of shape ", parameter.shape.ToString(), " in unit ",
             units[parameter.unit].name, " is another in the run's table, of shape ", have.shape.ToString(),
             " in unit ", units[have.unit].name);
  return p;
}

}  // namespace angel_ptm
