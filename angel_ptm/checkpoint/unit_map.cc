#include "angel_ptm/checkpoint/unit_map.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

template <typename... Parts>
absl::Status Differs(const Parts&... parts) {
  return absl::FailedPreconditionError(absl::StrCat(parts...));
}

absl::Status CheckUnit(const ManifestUnit& want, const ManifestUnit& got) {
  for (size_t p = 0; p < std::min(want.parameters.size(), got.parameters.size()); ++p) {
    const ManifestParameter &a = want.parameters[p], &b = got.parameters[p];
    if (a.name != b.name) return Differs("wanted parameter ", a.name, ", got ", b.name);
    if (a.shape != b.shape) {
      return Differs("wanted parameter ", a.name, " of shape ", a.shape.ToString(), ", got ", b.shape.ToString());
    }
    if (a.offset != b.offset) return Differs("wanted parameter ", a.name, " at ", a.offset, ", got ", b.offset);
  }
  if (want.parameters.size() > got.parameters.size()) {
    const ManifestParameter& first = want.parameters[got.parameters.size()];
    return Differs("parameter ", first.name, " of shape ", first.shape.ToString(), " is missing");
  }
  if (got.parameters.size() > want.parameters.size()) {
    return Differs("it has a parameter ", got.parameters[want.parameters.size()].name, " that the model has not");
  }
  if (want.name != got.name) return Differs("wanted unit ", want.name, ", got ", got.name);
  if (want.elements != got.elements) {
    return Differs("wanted unit ", want.name, " of ", want.elements, " elements, got ", got.elements);
  }
  return absl::OkStatus();
}

absl::Status CheckUnits(const std::vector<ManifestUnit>& wanted, const std::vector<ManifestUnit>& stored) {
  for (size_t u = 0; u < std::min(wanted.size(), stored.size()); ++u) RETURN_IF_ERROR(CheckUnit(wanted[u], stored[u]));
  if (wanted.size() == stored.size()) return absl::OkStatus();
  return Differs("wanted ", wanted.size(), " units, got ", stored.size());
}

struct StoredParameter {
  UnitId unit;
  const ManifestParameter* parameter;
};

std::vector<StoredParameter> ParametersOf(const std::vector<ManifestUnit>& units) {
  std::vector<StoredParameter> all;
  for (size_t u = 0; u < units.size(); ++u) {
    for (const ManifestParameter& p : units[u].parameters) all.push_back({static_cast<UnitId>(u), &p});
  }
  return all;
}

bool SameParameters(const std::vector<StoredParameter>& a, const std::vector<StoredParameter>& b) {
  return std::ranges::equal(a, b, [](const StoredParameter& x, const StoredParameter& y) {
    return x.parameter->name == y.parameter->name && x.parameter->shape == y.parameter->shape;
  });
}

}  // namespace

absl::StatusOr<UnitMap> UnitMap::Create(const std::vector<ManifestUnit>& stored, const ParameterTable& table) {
  const std::vector<ManifestUnit> wanted = DescribeUnits(table, /*world_size=*/1);
  const absl::Status same = CheckUnits(wanted, stored);
  if (same.ok()) return UnitMap();
  const std::vector<StoredParameter> want = ParametersOf(wanted), have = ParametersOf(stored);
  if (!SameParameters(want, have)) return same;
  UnitMap map;
  map.pieces_.resize(wanted.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const ManifestParameter& p = *want[i].parameter;
    map.pieces_[want[i].unit].push_back({p.offset, p.shape.elements(), have[i].unit, have[i].parameter->offset});
  }
  return map;
}

std::vector<UnitMap::Piece> UnitMap::PiecesOf(UnitId unit, int64_t begin, int64_t end) const {
  std::vector<Piece> pieces;
  for (const Piece& piece : pieces_[unit]) {
    const int64_t first = std::max(begin, piece.begin), last = std::min(end, piece.begin + piece.count);
    if (first < last) pieces.push_back({first, last - first, piece.unit, piece.at + first - piece.begin});
  }
  return pieces;
}

}  // namespace angel_ptm
