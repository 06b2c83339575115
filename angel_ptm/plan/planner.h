// Entry point of planning: Graph + options -> Plan. Pure: no clock, no machine, no rank; every rank of a run makes the
// same.
#ifndef ANGEL_PTM_PLAN_PLANNER_H_
#define ANGEL_PTM_PLAN_PLANNER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// What a backend and a transport need besides the operands, as plain data, so that planning never calls them.
struct BackendFacts {
  std::vector<int64_t> op_workspace_bytes;    // by op of the graph
  std::vector<int64_t> reduce_scratch_bytes;  // by unit
};

// Several layers: who starts so early is never waited for. Earlier still it would only hold memory, and packing would
// have thousands of buffers alive at once.
inline constexpr int kPrefetchStepsMax = 128;

struct PlanOptions {
  int world_size = 1;
  int zero_stage = 0;
  int ranks_per_node = 0;  // as in WorldShape
  int expert_degree = 1;   // as in WorldShape
  int64_t page_bytes = int64_t{4} << 20;
  int64_t device_bytes = 0;  // budget; 0: as much as is useful
  int64_t host_bytes = 0;    // budget; 0: as much as is useful
  int64_t file_bytes = 0;    // budget; 0: there is no file tier
  // Compute steps that a move or gather may start ahead of its use, and that a freed buffer may linger; more than
  // kPrefetchStepsMax act like these.
  int prefetch_steps = 8;
  // Of a lock-free update: one unit in so many may be under way at a time, >= 1. More take less memory and more steps.
  int sweep_rounds = 1;
};

// A Plan within the budgets. State rests as near to the device as they allow, the busiest first; in the file only what
// the host has no room for: state, and if that does not do, activations that wait there. kResourceExhausted if there is
// no Plan: names the tier, what was given, the least that works and what needs it; where that is the device,
// *least_device_bytes is set to the least, too. It is exact: with an unlimited host, that budget and every larger one
// has a Plan, and every smaller one is refused with the same number. So is the host's least at a given device budget.
// With `layout` (from another Plan of the run) homes stay where they are.
absl::StatusOr<Plan> MakePlan(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                              const Layout* layout = nullptr, int64_t* least_device_bytes = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLANNER_H_
