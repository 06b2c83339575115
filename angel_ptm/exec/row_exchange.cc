#include "angel_ptm/exec/row_exchange.h"

#include "kernels/ops/add.h"

namespace angel_ptm {

absl::Status RunExchange(const RowExchange& exchange, LaneBackend& backend, const KernelTable& kernels, CallTag tag) {
  if (exchange.op.kind == OpKind::kGatherRows) {
    return backend.AllGather(RankGroup::kPlaces, exchange.y, exchange.x, tag);
  }
  const ReducedSlice sums(exchange.y, exchange.type);
  RETURN_IF_ERROR(backend.ReduceScatter(RankGroup::kPlaces, sums, {exchange.x, exchange.type}, /*accumulate=*/false,
                                        exchange.scratch, tag));
  if (exchange.base != nullptr) {
    const int64_t n = sums.elements();
    kernels.add({.y = {exchange.y.data(), exchange.type},
                 .x = {exchange.base, exchange.type},
                 .rows = 1,
                 .width = n,
                 .column_end = n,
                 .accumulate = true},
                backend.ContextOf(Lane::kComm));
  }
  return backend.Finish(Lane::kComm);
}

}  // namespace angel_ptm
