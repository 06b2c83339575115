// The rules of all ops are consistent: slots, access, cost.
#include "angel_ptm/model/op_rules.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "optim/adamw.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

using model_testing::kSmallBatch;
using model_testing::SmallShape;

TEST(OpRules, OnlyUpdateOpsWorkOnStatesInsteadOfTensors) {
  for (int i = 0; i < kOpKindCount; ++i) {
    const auto kind = static_cast<OpKind>(i);
    const OpRules& rules = RulesOf(kind);
    const bool of_no_graph = kind == OpKind::kSquareSum || kind == OpKind::kLossSum;
    const bool update = of_no_graph || kind == OpKind::kAdamW || kind == OpKind::kEma;
    EXPECT_EQ(rules.bind == nullptr, update || IsExchange(kind)) << Name(kind);
    EXPECT_EQ(rules.bind_update != nullptr, update && !of_no_graph) << Name(kind);
    EXPECT_EQ(rules.shapes == nullptr, update) << Name(kind);
    EXPECT_EQ(rules.outputs.empty(), update) << Name(kind);
    std::set<std::string> names;
    for (const InputSlot& slot : rules.inputs) EXPECT_TRUE(names.emplace(slot.name).second) << Name(kind) << slot.name;
    for (const OutputSlot& slot : rules.outputs) EXPECT_TRUE(names.emplace(slot.name).second) << Name(kind);
  }
}

TEST(OpRules, AccessSaysWhatIsReadAndWritten) {
  Op op{.kind = OpKind::kRouterGrad};
  for (int slot = 0; slot < 8; ++slot) EXPECT_EQ(AccessOf(op, slot), Access::kRead);
  EXPECT_EQ(AccessOf(op, 8), Access::kWrite);
  EXPECT_EQ(AccessOf(op, 9), Access::kWrite);
  op.attrs.accumulate = true;
  EXPECT_EQ(AccessOf(op, 8), Access::kReadWrite);
  EXPECT_EQ(AccessOf(op, 9), Access::kWrite);
  op.attrs.accumulate_dw = true;
  EXPECT_EQ(AccessOf(op, 9), Access::kReadWrite);
  // Does not write the value columns; attention does not care what the other columns hold.
  EXPECT_EQ(AccessOf({.kind = OpKind::kQkRopeNormGrad}, 8), Access::kReadWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kAttentionGrad}, 9), Access::kWrite);
  // Others preserve them where an attribute says that they hold something.
  EXPECT_EQ(AccessOf({.kind = OpKind::kGatedAddGrad}, 4), Access::kWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kGatedAddGrad, .attrs = {.keep_columns = true}}, 4), Access::kReadWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kGatedAddGrad, .attrs = {.keep_columns = true}}, 3), Access::kWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kCachedAttention}, 5), Access::kReadWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kRouter}, 5), Access::kWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kRouter}, 6), Access::kReadWrite);
  for (int slot = 0; slot < 3; ++slot) EXPECT_EQ(AccessOf({.kind = OpKind::kAdamW}, slot), Access::kReadWrite);
  EXPECT_EQ(AccessOf({.kind = OpKind::kAdamW}, 3), Access::kRead);
  EXPECT_EQ(AccessOf({.kind = OpKind::kSquareSum}, 0), Access::kRead);
  EXPECT_EQ(AccessOf({.kind = OpKind::kAdamW}, 4), Access::kReadWrite);
  EXPECT_DEATH(AccessOf({.kind = OpKind::kAdamW}, 5), "AdamW has no slot 5");
}

TEST(OpRulesDeathTest, AnOperandThatDoesNotFitIsNamed) {
  GraphBuilder builder("graph");
  const TensorId x = builder.AddInput("x", {4, 8}, DType::kFloat32);
  EXPECT_DEATH(builder.Append(OpKind::kMatmul, "c", {x, kNone}), "Matmul input 1 \\(b\\) is missing");
  EXPECT_DEATH(builder.Append(OpKind::kMatmul, "c", {x}), "Matmul has 2 inputs, got 1");
  EXPECT_DEATH(builder.AppendInto(OpKind::kAdd, {x}, {x}), "Add has x in two slots, one of them an output");
}

TEST(Cost, BytesAreThoseOfOperandsThatMove) {
  GraphBuilder builder("graph");
  const TensorId x = builder.AddInput("x", {4, 8}, DType::kFloat32);
  const TensorId w = builder.AddInput("w", {16, 8}, DType::kFloat32);
  const TensorId c = builder.Append(OpKind::kMatmul, "c", {x, w}, {.trans_b = true})[0];
  OpCost cost = CostOf(builder.graph(), builder.graph().ops.back());
  EXPECT_EQ(cost.flops, 2.0 * 4 * 8 * 16);
  EXPECT_EQ(cost.bytes, 4.0 * (4 * 8 + 16 * 8 + 4 * 16));
  builder.AppendInto(OpKind::kMatmul, {c}, {x, w}, {.trans_b = true, .accumulate = true});
  cost = CostOf(builder.graph(), builder.graph().ops.back());
  EXPECT_EQ(cost.bytes, 4.0 * (4 * 8 + 16 * 8 + 2 * 4 * 16));
  // Of a table, only the rows that are looked up count.
  const TensorId tokens = builder.AddInput("tokens", {4}, DType::kInt32);
  builder.Append(OpKind::kEmbedding, "e", {builder.AddInput("table", {1000, 8}, DType::kFloat32), tokens});
  EXPECT_EQ(CostOf(builder.graph(), builder.graph().ops.back()).bytes, 4.0 * 2 * 4 * 8);
}

TEST(Cost, EveryOpOfAModelMovesBytes) {
  for (const bool moe : {false, true}) {
    Graph graph = BuildHunyuanLmTraining(SmallShape(moe, true), kSmallBatch, {false, true, false},
                                         HunyuanLmParameters(SmallShape(moe, true), AdamWStates()));
    AppendAdamW(graph);
    for (const Op& op : graph.ops) EXPECT_GT(CostOf(graph, op).bytes, 0) << Name(op.kind);
  }
}

}  // namespace
}  // namespace angel_ptm
