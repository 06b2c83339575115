// The columns of modulation[B,W], which has one row of factors and summands per sample, for ops that read some of them.
#ifndef ANGEL_PTM_MODEL_OPS_MODULATION_COLUMNS_H_
#define ANGEL_PTM_MODEL_OPS_MODULATION_COLUMNS_H_

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

inline ColumnRange ModulationColumns(const OpAttrs& a) { return {a.column_begin, a.column_end}; }

// Checks that the modulation of x[T,H], in `slot`, has one row per sample and `parts` * H columns for this op.
inline void ModulationFits(const OpView& v, int slot, const Shape& x, int64_t parts) {
  const OpAttrs& a = v.attrs();
  v.Want(v.OfRank(slot, 2)[0] > 0 && x[0] % v.In(slot)[0] == 0 && v.In(slot)[1] >= a.column_end &&
             a.column_end - a.column_begin == parts * x[1],
         slot);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OPS_MODULATION_COLUMNS_H_
