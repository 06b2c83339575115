#include <variant>

#include "angel_ptm/exec/executor.h"
#include "angel_ptm/exec/kernel_call.h"
#include "comm/communicator.h"
#include "kernels/cpu/workspace.h"

namespace angel_ptm {

BackendFacts CpuFacts(const Graph& graph, int world_size, int threads) {
  BackendFacts facts;
  for (const Op& op : graph.ops) {
    if (op.phase == Phase::kUpdate) {
      facts.op_workspace_bytes.push_back(0);
      continue;
    }
    const std::vector<void*> no_addresses(op.inputs.size() + op.outputs.size(), nullptr);
    facts.op_workspace_bytes.push_back(std::visit(
        [&](const auto& args) -> int64_t {
          if constexpr (std::is_same_v<std::decay_t<decltype(args)>, std::monostate>)
            return 0;
          else
            return CpuWorkspaceBytes(args, threads);
        },
        BindKernel(graph, op, no_addresses)));
  }
  for (const Unit& unit : graph.units) {
    facts.reduce_scratch_bytes.push_back(
        Communicator::ReduceScratchBytes(SliceUnit(unit.elements, world_size).slice_elements, world_size));
  }
  return facts;
}

}  // namespace angel_ptm
