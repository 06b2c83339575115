#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/exec/kernel_call.h"
#include "comm/ordered_reduce_scatter.h"
#include "kernels/cpu/workspace.h"

namespace angel_ptm {

namespace {

// Whether the backend runs an op, and with how many bytes of workspace.
struct OpFacts {
  int threads;

  absl::StatusOr<int64_t> operator()(const std::monostate&) const { return int64_t{0}; }
  template <typename Args>
  absl::StatusOr<int64_t> operator()(const Args& args) const {
    RETURN_IF_ERROR(CpuSupports(args));
    return CpuWorkspaceBytes(args, threads);
  }
};

}  // namespace

absl::StatusOr<BackendFacts> CpuFacts(const Graph& graph, int world_size, int threads) {
  BackendFacts facts;
  for (const Op& op : graph.ops) {
    if (op.phase == Phase::kUpdate) {
      facts.op_workspace_bytes.push_back(0);
      continue;
    }
    const std::vector<void*> no_addresses(op.inputs.size() + op.outputs.size(), nullptr);
    const absl::StatusOr<int64_t> bytes = std::visit(OpFacts{threads}, BindKernel(graph, op, no_addresses));
    if (!bytes.ok()) {
      return absl::Status(bytes.status().code(),
                          absl::StrCat(graph.tensors[NamingOutput(op)].name, ": ", bytes.status().message()));
    }
    facts.op_workspace_bytes.push_back(*bytes);
  }
  for (const Unit& unit : graph.units) {
    facts.reduce_scratch_bytes.push_back(
        ReduceScratchBytes(SliceUnit(unit.elements, world_size).slice_elements, world_size));
  }
  return facts;
}

}  // namespace angel_ptm
