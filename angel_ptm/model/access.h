// What an op does to an operand, for whoever orders and proves memory traffic.
#ifndef ANGEL_PTM_MODEL_ACCESS_H_
#define ANGEL_PTM_MODEL_ACCESS_H_

#include <cstdint>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

enum class Access : uint8_t {
  kRead,
  kWrite,      // what was there does not matter; with a slot's `columns`, the others are left undefined
  kReadWrite,  // what was there goes into the result or stays beside it: (+)=, caches, parts of rows
  kUsedUp,     // read, and left with other values than before
};

inline bool Reads(Access access) { return access != Access::kWrite; }
inline bool Writes(Access access) { return access != Access::kRead; }

// Columns [begin, end) of a tensor seen as a matrix of shape[0] rows.
struct ColumnRange {
  int64_t begin = 0, end = 0;
  friend bool operator==(const ColumnRange&, const ColumnRange&) = default;
};

// By slot, inputs then outputs. An update op's slots are its unit's states in the order of its rules (model/ops): the
// graph names no tensors for them.
Access AccessOf(const Op& op, int slot);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_ACCESS_H_
