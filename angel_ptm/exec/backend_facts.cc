#include "angel_ptm/exec/backend_facts.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/model/op_rules.h"
#include "angel_ptm/plan/shard.h"
#include "comm/ordered_reduce_scatter.h"
#include "kernels/ops/loss_sum.h"
#include "kernels/ops/square_sum.h"

namespace angel_ptm {
namespace {

int64_t SumScratchBytes(const Graph& graph, const Op& op) {
  const Tensor& sums = graph.tensors[op.outputs[0]];
  return ReduceScratchBytes(sums.shape.elements(), static_cast<int>(op.attrs.group_ranks), sums.dtype);
}

}  // namespace

absl::StatusOr<BackendFacts> FactsOf(const Graph& graph, const KernelTable& kernels, const BackendOptions& options,
                                     WorldShape world) {
  BackendFacts facts;
  for (const Op& op : graph.ops) {
    if (op.phase == Phase::kUpdate || IsExchange(op.kind)) {
      facts.op_workspace_bytes.push_back(op.kind == OpKind::kSumRows ? SumScratchBytes(graph, op) : 0);
      continue;
    }
    const std::vector<void*> no_addresses(op.inputs.size() + op.outputs.size(), nullptr);
    const auto call = BindKernel(graph, op, no_addresses);
    if (const absl::Status status = call->CanRun(kernels); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat(graph.tensors[NamingOutput(op)].name, ": ", status.message()));
    }
    facts.op_workspace_bytes.push_back(call->WorkspaceBytes(kernels, options));
  }
  for (const Unit& unit : graph.units()) {
    const WorldShape sharers = unit.is_experts && world.expert_degree > 1 ? world.expert_replicas() : world;
    facts.reduce_scratch_bytes.push_back(
        ReduceScratchBytes(SliceUnit(unit.elements, world.size).slice_elements, sharers, graph.table->compute_type()));
  }
  return facts;
}

std::map<OpKind, std::string> OpsRefused(const Graph& graph, const KernelTable& kernels) {
  std::map<OpKind, std::string> refused;
  const auto ask = [&refused](OpKind kind, const absl::Status& can_run) {
    if (!can_run.ok()) refused.emplace(kind, can_run.message());
  };
  const AdamWConstants adamw;
  const UpdateDecision decision;
  const bool trained = graph.states().size() > kGradientState;
  const DType gradient_type = trained ? graph.states()[kGradientState].dtype : DType::kFloat32;
  for (const Op& op : graph.ops) {
    if (IsExchange(op.kind)) continue;
    const std::vector<void*> no_addresses(op.inputs.size() + op.outputs.size() + op.states.size(), nullptr);
    const auto call = op.phase != Phase::kUpdate ? BindKernel(graph, op, no_addresses)
                                                 : RulesOf(op.kind).bind_update({.address = no_addresses,
                                                                                 .type = graph.table->compute_type(),
                                                                                 .gradient_type = gradient_type,
                                                                                 .no_decay = {},
                                                                                 .adamw = adamw,
                                                                                 .decision = decision});
    ask(op.kind, call->CanRun(kernels));
  }
  ask(OpKind::kLossSum, kernels.loss_sum.can_run({.n = 1}));
  ask(OpKind::kSquareSum, kernels.square_sum.can_run({.values = {nullptr, gradient_type}, .n = kSquareSumGroup}));
  return refused;
}

}  // namespace angel_ptm
