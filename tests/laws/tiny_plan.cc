// What a run of tiny_run.h plays: the models, their graphs and plans, and budgets.
#include <algorithm>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/verify.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "tests/laws/tiny_run.h"
#include "tests/plan/plan_testing.h"

namespace angel_ptm {
namespace {

PlanOptions OptionsOf(const TinyRun& run, int world) {
  return {.world_size = world,
          .zero_stage = run.zero_stage,
          .page_bytes = run.page_bytes,
          .device_bytes = run.device_bytes,
          .host_bytes = run.host_bytes,
          .file_bytes = run.file_tier ? int64_t{1} << 40 : 0,
          .prefetch_steps = run.prefetch_steps,
          .sweep_rounds = std::max(1, run.max_staleness / 2)};
}

}  // namespace

HunyuanLmShape TinyDense() {
  return {.vocab_size = 96,
          .hidden_size = 32,
          .intermediate_size = 48,
          .num_hidden_layers = 4,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 8,
          .rope_alpha = 50,
          .tie_word_embeddings = false,
          .initializer_range = 0.2f};
}

HunyuanLmShape TinyMoe() {
  HunyuanLmShape shape = TinyDense();
  shape.num_experts = 4;
  shape.moe_topk = 2;
  shape.tie_word_embeddings = true;
  shape.router_aux_loss_coefficient = 0.01f;
  return shape;
}

Graph TinyGraph(const TinyRun& run) {
  std::vector<StateSpec> states = AdamWStates(run.compute, run.gradients);
  if (run.ema_decay > 0) states.push_back(EmaState());
  if (run.max_staleness != kNone) {
    for (StateSpec& state : LockFreeStates(run.compute)) states.push_back(std::move(state));
  }
  Graph graph =
      BuildHunyuanLmTraining(run.shape, run.batch, std::vector<bool>(run.shape.num_hidden_layers, run.recompute),
                             HunyuanLmParameters(run.shape, states));
  AppendAdamW(graph);
  if (run.ema_decay > 0) AppendEma(graph);
  return graph;
}

absl::StatusOr<std::shared_ptr<const TinyPlan>> MakeTinyPlan(const TinyRun& run, int world_size) {
  const auto planned = std::make_shared<TinyPlan>();
  planned->graph = TinyGraph(run);
  const KernelTable& kernels = run.device ? *run.device_kernels : CpuKernels();
  ASSIGN_OR_RETURN(const BackendFacts facts, FactsOf(planned->graph, kernels, {.threads = run.threads}, world_size));
  ASSIGN_OR_RETURN(planned->plan, MakePlan(planned->graph, facts, OptionsOf(run, world_size)));
  RETURN_IF_ERROR(VerifyPlan(planned->graph, planned->plan));
  return planned;
}

int64_t UnconstrainedDeviceBytes(const TinyRun& run, int world_size) {
  const Graph graph = TinyGraph(run);
  PlanOptions options = OptionsOf(run, world_size);
  options.device_bytes = options.host_bytes = 0;
  const auto plan =
      MakePlan(graph, FactsOf(graph, CpuKernels(), {.threads = run.threads}, world_size).value(), options);
  APTM_CHECK(plan.ok());
  return plan->arena_bytes[0];
}

int64_t DeviceBudget(const TinyRun& run, int world_size, int percent) {
  const Graph graph = TinyGraph(run);
  const BackendFacts facts = FactsOf(graph, CpuKernels(), {.threads = run.threads}, world_size).value();
  PlanOptions options = OptionsOf(run, world_size);
  options.host_bytes = 0;
  return std::max(UnconstrainedDeviceBytes(run, world_size) * percent / 100,
                  plan_testing::LeastDeviceBytes(graph, facts, options));
}

HostRange HostBytes(const TinyRun& run, int world_size) {
  const Graph graph = TinyGraph(run);
  const BackendFacts facts = FactsOf(graph, CpuKernels(), {.threads = run.threads}, world_size).value();
  PlanOptions options = OptionsOf(run, world_size);
  options.host_bytes = 0;
  const auto plan = MakePlan(graph, facts, options);
  APTM_CHECK(plan.ok(), plan.status().message());
  if (plan->arena_bytes[1] == 0) return {};
  options.file_bytes = int64_t{1} << 40;
  return {.least = plan_testing::LeastHostBytes(graph, facts, options), .all = plan->arena_bytes[1]};
}

}  // namespace angel_ptm
