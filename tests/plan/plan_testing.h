// Graphs, backend facts and options for the tests of plan/.
#ifndef ANGEL_PTM_TESTS_PLAN_PLAN_TESTING_H_
#define ANGEL_PTM_TESTS_PLAN_PLAN_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/hunyuan_lm.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/plan/planner.h"
#include "angel_ptm/plan/verify.h"
#include "optim/adamw.h"

namespace angel_ptm::plan_testing {

inline HunyuanLmShape SmallShape(int64_t layers, bool moe) {
  HunyuanLmShape shape{.vocab_size = 512,
                       .hidden_size = 64,
                       .intermediate_size = moe ? 96 : 256,
                       .num_hidden_layers = layers,
                       .num_attention_heads = 4,
                       .num_key_value_heads = 2,
                       .head_dim = 16,
                       .tie_word_embeddings = true};
  if (moe) {
    shape.num_experts = 4;
    shape.moe_topk = 2;
    shape.router_aux_loss_coefficient = 0.01f;
  }
  return shape;
}

inline constexpr HunyuanLmBatch kSmallBatch{
    .rows = 2, .sequence = 64, .lm_head_chunk_tokens = 32, .expert_block_rows = 8};

inline Graph TrainingGraph(const HunyuanLmShape& shape, const HunyuanLmBatch& batch, bool recompute,
                           std::vector<StateSpec> states = AdamWStates()) {
  Graph graph = BuildHunyuanLmTraining(shape, batch, std::vector<bool>(shape.num_hidden_layers, recompute),
                                       HunyuanLmParameters(shape, std::move(states)));
  AppendAdamW(graph);
  return graph;
}

// Facts with workspaces of the size a host backend asks for: attention's row statistics, a chunk of logits, an ordered
// reduction's receive buffer.
inline BackendFacts FactsFor(const Graph& graph) {
  BackendFacts facts;
  for (const Op& op : graph.ops) {
    int64_t bytes = 0;
    if (op.kind == OpKind::kAttentionGrad) bytes = 64 << 10;
    if (op.kind == OpKind::kLinearCrossEntropy) {
      bytes = op.attrs.chunk_tokens * graph.tensors[op.inputs[1]].shape[0] * 4;
    }
    facts.op_workspace_bytes.push_back(bytes);
  }
  for (const Unit& unit : graph.units())
    facts.reduce_scratch_bytes.push_back(std::min<int64_t>(unit.elements * 4, 32 << 10));
  return facts;
}

// The least budget that a refusal names.
inline int64_t LeastThatWorks(const Graph& graph, const BackendFacts& facts, const PlanOptions& options) {
  const std::string message(MakePlan(graph, facts, options).status().message());
  const std::vector<std::string> parts = absl::StrSplit(message, absl::MaxSplits("the least that works is ", 1));
  const std::vector<std::string> in_bytes = absl::StrSplit(parts.back(), absl::ByAnyChar("()"));
  int64_t least = 0;
  APTM_CHECK(parts.size() == 2 && in_bytes.size() > 1 && absl::SimpleAtoi(in_bytes[1], &least), message);
  return least;
}

// The least device budget that works, for any host budget.
inline int64_t LeastDeviceBytes(const Graph& graph, const BackendFacts& facts, PlanOptions options) {
  options.device_bytes = 1;
  return LeastThatWorks(graph, facts, options);
}

// The least host budget that works at the given device budget.
inline int64_t LeastHostBytes(const Graph& graph, const BackendFacts& facts, PlanOptions options) {
  options.host_bytes = 1;
  return LeastThatWorks(graph, facts, options);
}

// More than any plan takes.
inline constexpr int64_t kRoomyTier = int64_t{1} << 40;

inline int64_t ArenaBytes(const Plan& plan, TierKind tier) { return plan.arena_bytes[static_cast<int>(tier)]; }

// Options with room in the file.
struct FileCase {
  bool moe;
  int world, stage;
  int64_t page_bytes;
  int prefetch_steps;
  DType type;
};

inline std::string NameOf(const ::testing::TestParamInfo<FileCase>& info) {
  const FileCase& c = info.param;
  return absl::StrCat(c.moe ? "moe" : "dense", "_", c.world, "ranks_stage", c.stage, "_pages", c.page_bytes,
                      "_prefetch", c.prefetch_steps, "_", Name(c.type));
}

inline PlanOptions OptionsOf(const FileCase& c) {
  return {.world_size = c.world,
          .zero_stage = c.stage,
          .page_bytes = c.page_bytes,
          .file_bytes = kRoomyTier,
          .prefetch_steps = c.prefetch_steps};
}

inline int64_t MovesOf(const Plan& plan) {
  int64_t moves = 0;
  for (const Segment& segment : plan.segments) {
    if (segment.computes && segment.updates) continue;  // counted apart
    for (const Step& step : segment.steps) moves += step.kind == StepKind::kMove ? 1 : 0;
  }
  return moves;
}

}  // namespace angel_ptm::plan_testing

#endif  // ANGEL_PTM_TESTS_PLAN_PLAN_TESTING_H_
