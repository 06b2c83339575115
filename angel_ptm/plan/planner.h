// Entry point of planning: Graph + options -> Plan. Pure: it depends on no clock, machine or rank, so every rank of a
// run makes the same Plan.
#ifndef ANGEL_PTM_PLAN_PLANNER_H_
#define ANGEL_PTM_PLAN_PLANNER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// The memory that a backend and a transport need besides the operands, as plain data, so that planning never calls
// them.
struct BackendFacts {
  std::vector<int64_t> op_workspace_bytes;    // by op of the graph
  std::vector<int64_t> reduce_scratch_bytes;  // by unit
};

// The largest useful prefetch distance. It spans several layers, so a transfer that starts this early is never waited
// for. Starting even earlier would only hold memory, and packing would face thousands of live buffers at once.
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
  // How many compute steps a move or gather may start ahead of its use, and a departing buffer may linger. Values above
  // kPrefetchStepsMax act like kPrefetchStepsMax.
  int prefetch_steps = 8;
  // Lock-free update: one unit in sweep_rounds (>= 1) may be under way at a time. A larger value takes less memory and
  // makes an update last more steps.
  int sweep_rounds = 1;
};

// Returns a Plan within the budgets. State rests as near to the device as the budgets allow, the busiest state first.
// The file holds only what the host has no room for: state and, if that does not suffice, activations that wait for
// their next use. With `layout` (from another Plan of the run) homes stay where they are.
//
// Returns kResourceExhausted if there is no Plan. The message names the tier, the given budget, the least budget that
// works and what needs it; if the tier is the device, *least_device_bytes is set to that least budget. The least is
// exact: with an unlimited host, that budget and every larger one has a Plan, and every smaller one is refused with the
// same number. The least budget of the host at a given device budget is exact, too.
absl::StatusOr<Plan> MakePlan(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                              const Layout* layout = nullptr, int64_t* least_device_bytes = nullptr);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLANNER_H_
