// What a run of tiny_run.h plays: models, their graphs and plans, and budgets.
#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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

WorldShape ShapeOf(const TinyRun& run, int world) { return {world, run.ranks_per_node, run.shape.expert_degree}; }

PlanOptions OptionsOf(const TinyRun& run, int world) {
  return {.world_size = world,
          .zero_stage = run.zero_stage,
          .ranks_per_node = run.ranks_per_node,
          .expert_degree = run.shape.expert_degree,
          .page_bytes = run.page_bytes,
          .device_bytes = run.device_bytes,
          .host_bytes = run.host_bytes,
          .file_bytes = run.file_tier ? int64_t{1} << 40 : 0,
          .prefetch_steps = run.prefetch_steps,
          .sweep_rounds = std::max(1, run.max_staleness / 2)};
}

// Everything that a plan is a function of.
std::string PlanKey(const Graph& graph, const BackendFacts& facts, const PlanOptions& o) {
  return absl::StrCat(Hash(graph), "; ", o.world_size, " ", o.zero_stage, " ", o.ranks_per_node, " ", o.expert_degree,
                      " ", o.page_bytes, " ", o.device_bytes, " ", o.host_bytes, " ", o.file_bytes, " ",
                      o.prefetch_steps, " ", o.sweep_rounds, "; ", absl::StrJoin(facts.op_workspace_bytes, " "), "; ",
                      absl::StrJoin(facts.reduce_scratch_bytes, " "));
}

// A cache of the newest plans.
class KnownPlans {
 public:
  std::shared_ptr<const TinyPlan> Find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p.first == key; });
    return found == plans_.end() ? nullptr : found->second;
  }
  void Add(const std::string& key, std::shared_ptr<const TinyPlan> plan) {
    const std::lock_guard lock(mutex_);
    if (plans_.size() == kPlansKept) plans_.pop_front();
    plans_.emplace_back(key, std::move(plan));
  }

 private:
  static constexpr size_t kPlansKept = 64;  // all of a covering matrix, which every transport plays

  std::mutex mutex_;
  std::deque<std::pair<std::string, std::shared_ptr<const TinyPlan>>> plans_;
};

// What a run's plan takes without a memory limit, and the least budget that works. Each number is computed once per
// process: the cases of a matrix share few of them, and planning takes longer than training a tiny model.
class Budgets {
 public:
  Budgets(const TinyRun& run, int world_size)
      : graph_(TinyGraph(run)),
        facts_(FactsOf(graph_, CpuKernels(), {.threads = run.threads}, ShapeOf(run, world_size)).value()),
        options_(OptionsOf(run, world_size)) {
    options_.device_bytes = options_.host_bytes = options_.file_bytes = 0;
  }

  void SetDevice(int64_t bytes) { options_.device_bytes = bytes; }

  int64_t Arena(TierKind tier) const {
    return Once(absl::StrCat("arena ", static_cast<int>(tier)), [&] {
      const auto plan = MakePlan(graph_, facts_, options_);
      APTM_CHECK(plan.ok(), plan.status().message());
      return plan->arena_bytes[static_cast<int>(tier)];
    });
  }
  int64_t Least(TierKind tier) const {
    return Once(absl::StrCat("least ", static_cast<int>(tier)), [&] {
      if (tier == TierKind::kDevice) return plan_testing::LeastDeviceBytes(graph_, facts_, options_);
      PlanOptions with_file = options_;
      with_file.file_bytes = int64_t{1} << 40;
      return plan_testing::LeastHostBytes(graph_, facts_, with_file);
    });
  }

 private:
  int64_t Once(const std::string& what, const std::function<int64_t()>& work_out) const {
    static std::mutex mutex;
    static auto& known = *new std::map<std::string, int64_t>();
    const std::string key = absl::StrCat(what, " ", PlanKey(graph_, facts_, options_));
    const std::lock_guard lock(mutex);
    const auto [it, is_new] = known.try_emplace(key);
    if (is_new) it->second = work_out();
    return it->second;
  }

  const Graph graph_;
  const BackendFacts facts_;
  PlanOptions options_;
};

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

HunyuanLmShape TinyMoe(int expert_degree) {
  HunyuanLmShape shape = TinyDense();
  shape.expert_degree = expert_degree;
  if (expert_degree > 1) shape.intermediate_size = 64;
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
  ASSIGN_OR_RETURN(const BackendFacts facts,
                   FactsOf(planned->graph, kernels, {.threads = run.threads}, ShapeOf(run, world_size)));
  static auto& known = *new KnownPlans();
  const PlanOptions options = OptionsOf(run, world_size);
  const std::string key = PlanKey(planned->graph, facts, options);
  if (std::shared_ptr<const TinyPlan> plan = known.Find(key)) return plan;
  ASSIGN_OR_RETURN(planned->plan, MakePlan(planned->graph, facts, options));
  RETURN_IF_ERROR(VerifyPlan(planned->graph, planned->plan));
  known.Add(key, planned);
  return planned;
}

int64_t UnconstrainedDeviceBytes(const TinyRun& run, int world_size) {
  return Budgets(run, world_size).Arena(TierKind::kDevice);
}

int64_t DeviceBudget(const TinyRun& run, int world_size, int percent) {
  const Budgets budgets(run, world_size);
  return std::max(budgets.Arena(TierKind::kDevice) * percent / 100, budgets.Least(TierKind::kDevice));
}

HostRange HostBytes(const TinyRun& run, int world_size) {
  Budgets budgets(run, world_size);
  budgets.SetDevice(run.device_bytes);
  TinyRun nothing_early = run;
  nothing_early.prefetch_steps = 0;
  Budgets without(nothing_early, world_size);
  without.SetDevice(run.device_bytes);
  const int64_t all = without.Arena(TierKind::kHost);
  return all == 0 ? HostRange() : HostRange{.least = budgets.Least(TierKind::kHost), .all = all};
}

}  // namespace angel_ptm
