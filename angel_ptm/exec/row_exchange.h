// Runs the ops in which ranks exchange rows (kernels/ops.def, APTM_EXCHANGE), between the ranks of a replica, which
// together have all experts.
#ifndef ANGEL_PTM_EXEC_ROW_EXCHANGE_H_
#define ANGEL_PTM_EXEC_ROW_EXCHANGE_H_

#include <cstddef>
#include <span>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lane_backend.h"
#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// An op with its operands; model/ops/gather_rows.cc says what it does.
struct RowExchange {
  const Op& op;
  DType type = DType::kFloat32;
  std::span<std::byte> x, y;
  std::byte* base = nullptr;
  std::span<std::byte> scratch;  // for a sum, as OrderedReduceScatter wants it
};

// On the comm lane. Collective; errors: the backend's.
absl::Status RunExchange(const RowExchange& exchange, LaneBackend& backend, const KernelTable& kernels, CallTag tag);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_ROW_EXCHANGE_H_
