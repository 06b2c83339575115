// Where the elements of a table's units lie in a checkpoint that has the same parameters in the same order, but has
// divided them into other units: a run whose experts are split has a unit for each of the experts' weights, other runs
// have one unit for both.
#ifndef ANGEL_PTM_CHECKPOINT_UNIT_MAP_H_
#define ANGEL_PTM_CHECKPOINT_UNIT_MAP_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/manifest.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

class UnitMap {
 public:
  // Elements [begin, begin + count) of a table's unit are those from `at` on of the checkpoint's unit.
  struct Piece {
    int64_t begin = 0, count = 0;
    UnitId unit = kNone;
    int64_t at = 0;
  };

  UnitMap() = default;  // units are the same
  // Error: the first difference, as a sentence without its beginning.
  static absl::StatusOr<UnitMap> Create(const std::vector<ManifestUnit>& stored, const ParameterTable& table);

  bool is_identity() const { return pieces_.empty(); }
  // The number of the table's units. Not for an identity.
  UnitId unit_count() const { return static_cast<UnitId>(pieces_.size()); }
  // The checkpoint's unit that has the unit's first parameter.
  UnitId FirstOf(UnitId unit) const { return is_identity() ? unit : pieces_[unit][0].unit; }
  // The pieces of elements [begin, end) of the unit, without the padding between parameters. Not for an identity.
  std::vector<Piece> PiecesOf(UnitId unit, int64_t begin, int64_t end) const;

 private:
  std::vector<std::vector<Piece>> pieces_;  // by the table's units
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_UNIT_MAP_H_
