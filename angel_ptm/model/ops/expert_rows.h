// What the ops on padded expert rows [R,...] have in common.
#ifndef ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_
#define ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

// Rows of `padded` that hold tokens: T*K = R - E*(block_rows-1), up to rounding (ExpertBlocksMax).
inline double TokenRows(const OpAttrs& a, int64_t padded) {
  return static_cast<double>(padded) - static_cast<double>(a.experts) * static_cast<double>(a.block_rows - 1);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_
