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

// Returns the facts of `kernels` with these options, and of a communicator of such a world, for MakePlan.
// kInvalidArgument if the backend does not run one of the graph's ops, naming the tensor, what the backend takes and
// what it got.
absl::StatusOr<BackendFacts> FactsOf(const Graph& graph, const KernelTable& kernels, const BackendOptions& options,
                                     WorldShape world);

// The kinds of ops of a run of the graph, sums of losses and squares included, that `kernels` refuses, with the reason
// for each; empty if it runs all.
std::map<OpKind, std::string> OpsRefused(const Graph& graph, const KernelTable& kernels);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_BACKEND_FACTS_H_
