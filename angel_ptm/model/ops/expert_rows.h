// Helpers shared by the ops on padded expert rows [R,...].
#ifndef ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_
#define ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_

#include <algorithm>

#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

// The share of the (token, choice) pairs that have a row, assuming balanced experts: all pairs, or those of a part of
// the experts.
inline double PairShare(const OpAttrs& a) {
  return a.experts_of_all == 0 ? 1 : static_cast<double>(a.experts) / static_cast<double>(a.experts_of_all);
}

// The number of rows, of `padded` = R, that hold tokens: T*K = R - E*(block_rows-1), up to rounding (ExpertBlocksMax).
// For a part of the experts, R has room for min(K, E) choices per token, of which K * PairShare() are expected.
inline double TokenRows(const OpAttrs& a, int64_t padded) {
  const double room =
      static_cast<double>(padded) - static_cast<double>(a.experts) * static_cast<double>(a.block_rows - 1);
  if (a.experts_of_all == 0) return room;
  return room / static_cast<double>(std::min(a.topk, a.experts)) * static_cast<double>(a.topk) * PairShare(a);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OPS_EXPERT_ROWS_H_
