// What a backend and a transport need to run a graph, as data for the planner.
#ifndef ANGEL_PTM_EXEC_BACKEND_FACTS_H_
#define ANGEL_PTM_EXEC_BACKEND_FACTS_H_

#include <map>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/planner.h"
#include "kernels/kernels.h"
#include "kernels/op_kind.h"

namespace angel_ptm {

// The facts of `kernels` with these options, and of a communicator of such a world, for MakePlan.
// kInvalidArgument naming the tensor, what the backend takes and what it got, if it does not run one of the graph's
// ops.
absl::StatusOr<BackendFacts> FactsOf(const Graph& graph, const KernelTable& kernels, const BackendOptions& options,
                                     WorldShape world);

// The ops that `kernels` refuses of what a run of the graph computes, sums of losses and squares included, and what it
// says of each kind; empty if it runs all.
std::map<OpKind, std::string> OpsRefused(const Graph& graph, const KernelTable& kernels);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_BACKEND_FACTS_H_
