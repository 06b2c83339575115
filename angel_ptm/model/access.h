// How an op accesses an operand. Used to order memory accesses and to prove their order.
#ifndef ANGEL_PTM_MODEL_ACCESS_H_
#define ANGEL_PTM_MODEL_ACCESS_H_

#include <cstdint>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

enum class Access : uint8_t {
  kRead,
  kWrite,      // the old content does not matter; with a slot's `columns`, other columns are left undefined
  kReadWrite,  // the old content enters the result or is partly kept: (+)=, caches, parts of rows
};

inline bool Reads(Access access) { return access != Access::kWrite; }
inline bool Writes(Access access) { return access != Access::kRead; }

// Columns [begin, end) of a tensor seen as a matrix of shape[0] rows.
struct ColumnRange {
  int64_t begin = 0, end = 0;
  friend bool operator==(const ColumnRange&, const ColumnRange&) = default;
};

// How `op` accesses the operand in `slot`; slots are inputs, then outputs. The slots of an update op are its unit's
// states in the order of its rules (model/ops), for which the graph has no tensors.
Access AccessOf(const Op& op, int slot);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_ACCESS_H_
