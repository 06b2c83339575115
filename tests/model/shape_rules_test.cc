// The output shapes of every op kind for given input shapes.
#include <gtest/gtest.h>

#include <algorithm>

#include "angel_ptm/model/graph_builder.h"
#include "kernels/ops/hybrid_loss.h"

namespace angel_ptm {
namespace {

constexpr int64_t kT = 12, kH = 8, kV = 40, kF = 16, kE = 4, kK = 2, kBlock = 4;

class ShapeRules : public ::testing::Test {
 protected:
  TensorId Tensor(Shape shape, DType dtype = DType::kFloat32) { return builder_.AddInput("t", shape, dtype); }
  TensorId Ints(Shape shape) { return Tensor(shape, DType::kInt32); }

  // Shapes of the outputs; rank -1 stands for an absent one.
  std::vector<Shape> Infer(OpKind kind, std::vector<TensorId> inputs, OpAttrs attrs = {}) {
    std::vector<Shape> shapes;
    for (const OutputSpec& spec : InferOutputs(builder_.graph(), kind, inputs, attrs)) shapes.push_back(spec.shape);
    return shapes;
  }

  GraphBuilder builder_{"shapes"};
};

using Shapes = std::vector<Shape>;

TEST_F(ShapeRules, Products) {
  EXPECT_EQ(Infer(OpKind::kMatmul, {Tensor({kT, kH}), Tensor({kH, kF})}), (Shapes{{kT, kF}}));
  EXPECT_EQ(Infer(OpKind::kMatmul, {Tensor({kT, kH}), Tensor({kF, kH})}, {.trans_b = true}), (Shapes{{kT, kF}}));
  EXPECT_EQ(Infer(OpKind::kMatmul, {Tensor({kT, kF}), Tensor({kT, kH})}, {.trans_a = true}), (Shapes{{kF, kH}}));
  const TensorId rows = Tensor({20, kH}), block_expert = Ints({5}), active = Ints({1});
  EXPECT_EQ(Infer(OpKind::kGroupedMatmul, {rows, Tensor({kE, kF, kH}), block_expert, active}, {.trans_b = true}),
            (Shapes{{20, kF}}));
  EXPECT_EQ(Infer(OpKind::kGroupedMatmul, {rows, Tensor({kE, kH, kF}), block_expert, active}), (Shapes{{20, kF}}));
  EXPECT_EQ(Infer(OpKind::kGroupedMatmulGradWeight, {Tensor({20, kF}), rows, block_expert, active}, {.experts = kE}),
            (Shapes{{kE, kF, kH}}));
}

TEST_F(ShapeRules, EmbeddingNormsAndLoss) {
  EXPECT_EQ(Infer(OpKind::kEmbedding, {Tensor({kV, kH}), Ints({kT})}), (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kEmbeddingGrad, {Tensor({kT, kH}), Ints({kT})}, {.rows = kV}), (Shapes{{kV, kH}}));
  const TensorId x = Tensor({kT, kH}), weight = Tensor({kH}), rstd = Tensor({kT});
  EXPECT_EQ(Infer(OpKind::kAddRmsNorm, {x, x, weight}), (Shapes{{kT, kH}, {kT, kH}, {kT}}));
  EXPECT_EQ(Infer(OpKind::kAddRmsNormGrad, {x, kNone, x, rstd, weight}), (Shapes{{kT, kH}, {kH}}));
  EXPECT_EQ(Infer(OpKind::kLinearCrossEntropy, {x, Tensor({kV, kH}), Ints({kT})}), (Shapes{{kT}, {kT, kH}, {kV, kH}}));
  EXPECT_EQ(Infer(OpKind::kSwiglu, {Tensor({kT, 2 * kF}), kNone}), (Shapes{{kT, kF}}));
  EXPECT_EQ(Infer(OpKind::kSwigluGrad, {Tensor({kT, kF}), Tensor({kT, 2 * kF}), kNone}), (Shapes{{kT, 2 * kF}}));
}

TEST_F(ShapeRules, NormWithoutResidualHasNoSum) {
  const auto outputs = InferOutputs(builder_.graph(), OpKind::kAddRmsNorm, {Tensor({kT, kH}), kNone, Tensor({kH})}, {});
  EXPECT_TRUE(outputs[0].suffix.empty());
  EXPECT_FALSE(outputs[1].suffix.empty());
}

TEST_F(ShapeRules, AttentionWithGroupedHeads) {
  const OpAttrs attrs{.rows = 2, .sequence = 6, .q_heads = 4, .kv_heads = 2, .head_dim = 6};
  const TensorId qkv = Tensor({kT, (4 + 2 * 2) * 6}), table = Tensor({kT, 3, 2}), norm = Tensor({6});
  EXPECT_EQ(Infer(OpKind::kRopeTable, {Ints({kT})}, attrs), (Shapes{{kT, 3, 2}}));
  EXPECT_EQ(Infer(OpKind::kQkRopeNorm, {qkv, table, norm, norm}, attrs),
            (Shapes{{kT, 4, 6}, {kT, 2, 6}, {kT, 4}, {kT, 2}}));
  const TensorId q = Tensor({kT, 4, 6}), k = Tensor({kT, 2, 6}), o = Tensor({kT, 24}), lse = Tensor({4, kT});
  EXPECT_EQ(Infer(OpKind::kAttention, {q, k, qkv, Ints({kT})}, attrs), (Shapes{{kT, 24}, {4, kT}}));
  EXPECT_EQ(Infer(OpKind::kAttentionGrad, {o, o, lse, q, k, qkv, Ints({kT})}, attrs),
            (Shapes{{kT, 4, 6}, {kT, 2, 6}, {kT, 48}}));
  const OpAttrs decoding{.rows = 3, .sequence = 32, .q_heads = 4, .kv_heads = 2, .head_dim = 6};
  EXPECT_EQ(
      Infer(OpKind::kCachedAttention, {Tensor({3, 4, 6}), Tensor({3, 2, 6}), Tensor({3, 48}), Ints({1})}, decoding),
      (Shapes{{3, 24}, {3, 32, 2, 6}, {3, 32, 2, 6}}));
}

TEST_F(ShapeRules, FullAttentionHasKeysOfItsOwn) {
  const OpAttrs attrs{.rows = 2,
                      .sequence = 6,
                      .key_sequence = 5,
                      .q_heads = 4,
                      .kv_heads = 2,
                      .head_dim = 6,
                      .column_begin = 12,
                      .column_end = 24};
  const TensorId q = Tensor({kT, 4, 6}), k = Tensor({10, 2, 6}), kv = Tensor({10, 24}), counts = Ints({2});
  EXPECT_EQ(Infer(OpKind::kAttention, {q, k, kv, counts}, attrs), (Shapes{{kT, 24}, {4, kT}}));
  EXPECT_EQ(Infer(OpKind::kAttention, {q, k, kv, kNone}, attrs), (Shapes{{kT, 24}, {4, kT}}));
  const TensorId o = Tensor({kT, 24}), lse = Tensor({4, kT});
  EXPECT_EQ(Infer(OpKind::kAttentionGrad, {o, o, lse, q, k, kv, counts}, attrs),
            (Shapes{{kT, 4, 6}, {10, 2, 6}, {10, 24}}));
}

TEST_F(ShapeRules, ModulationHasARowPerSample) {
  const TensorId x = Tensor({kT, kH}), modulation = Tensor({3, 6 * kH}), statistics = Tensor({kT, 2});
  const OpAttrs two{.column_begin = kH, .column_end = 3 * kH}, one{.column_begin = kH, .column_end = 2 * kH};
  for (const OpAttrs& attrs : {one, two}) {
    EXPECT_EQ(Infer(OpKind::kLayerNorm, {x, kNone, kNone, modulation}, attrs), (Shapes{{kT, kH}, {kT, 2}}));
    EXPECT_EQ(Infer(OpKind::kLayerNormGrad, {x, kNone, x, statistics, kNone, kNone, modulation}, attrs)[3],
              (Shape{3, 6 * kH}));
  }
  EXPECT_EQ(Infer(OpKind::kGatedAdd, {x, x, modulation}, one), (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kGatedAdd, {kNone, x, modulation}, one), (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kGatedAddGrad, {x, x, modulation}, one), (Shapes{{kT, kH}, {3, 6 * kH}}));
  EXPECT_EQ(Infer(OpKind::kAddRows, {x, Tensor({4, kH})}), (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kAddRowsGrad, {x}, {.rows = 4}), (Shapes{{4, kH}}));
  EXPECT_EQ(Infer(OpKind::kAddRowsGrad, {x}), (Shapes{{kH}}));
  EXPECT_EQ(Infer(OpKind::kMeanPool, {x, Ints({3})}, {.rows = 3, .sequence = 4}), (Shapes{{3, kH}}));
  EXPECT_EQ(Infer(OpKind::kWeightedMse, {x, x, Tensor({3})}), (Shapes{{3}, {kT, kH}}));
  const TensorId half = Tensor({kT, kH / 2});
  EXPECT_EQ(Infer(OpKind::kHybridLoss, {x, half, half, Tensor({3}), Tensor({3, kBoundColumns})}, {.rows = 2 * kT}),
            (Shapes{{6}, {kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kConcat, {x, Tensor({kT, 5})}), (Shapes{{kT, kH + 5}}));
  EXPECT_EQ(Infer(OpKind::kConcat, {Tensor({3, kH}), x}, {.rows = 3, .sequence = 5}), (Shapes{{kT + 3, kH}}));
  EXPECT_EQ(Infer(OpKind::kSplit, {x}, {.column_end = 5}), (Shapes{{kT, 5}, {kT, kH - 5}}));
  EXPECT_EQ(Infer(OpKind::kSplit, {x}, {.rows = 2 * kT, .column_end = 3}), (Shapes{{kT, 6}, {kT, kH - 6}}));
  EXPECT_EQ(Infer(OpKind::kSplit, {x}, {.rows = 3, .sequence = 4, .column_end = kH}), (Shapes{{3, kH}, {9, kH}}));
  const OpAttrs heads{.head_dim = 2, .column_begin = 2, .column_end = 8};
  EXPECT_EQ(Infer(OpKind::kNormRope, {x, Tensor({2}), kNone, Tensor({4, 1, 2})}, heads), (Shapes{{kT, 3, 2}}));
}

TEST_F(ShapeRules, ImagesAreRowsOfPixels) {
  const TensorId x = Tensor({2 * 6 * 4, kH}), weight = Tensor({kF, kH, 3, 3}), bias = Tensor({kF});
  OpAttrs attrs{.height = 6, .width = 4, .kernel = 3, .pad_before = 1, .pad_after = 1};
  EXPECT_EQ(Infer(OpKind::kConv2d, {x, weight, bias}, attrs), (Shapes{{2 * 6 * 4, kF}}));
  attrs.upsample = 2;
  EXPECT_EQ(Infer(OpKind::kConv2d, {x, weight, kNone}, attrs), (Shapes{{2 * 12 * 8, kF}}));
  attrs.upsample = 1, attrs.stride = 2, attrs.pad_before = 0;
  EXPECT_EQ(Infer(OpKind::kConv2d, {x, weight, bias}, attrs), (Shapes{{2 * 3 * 2, kF}}));
  const TensorId dy = Tensor({2 * 3 * 2, kF});
  EXPECT_EQ(Infer(OpKind::kConv2dGradInput, {dy, weight}, attrs), (Shapes{{2 * 6 * 4, kH}}));
  EXPECT_EQ(Infer(OpKind::kConv2dGradWeight, {dy, x}, attrs), (Shapes{{kF, kH, 3, 3}}));
  const TensorId norm = Tensor({kH}), statistics = Tensor({2 * 4, 2});
  EXPECT_EQ(Infer(OpKind::kGroupNorm, {x, norm, norm}, {.rows = 2, .groups = 4}), (Shapes{{48, kH}, {8, 2}}));
  EXPECT_EQ(Infer(OpKind::kGroupNormGrad, {x, x, statistics, norm, norm}, {.rows = 2, .groups = 4}),
            (Shapes{{48, kH}, {kH}, {kH}}));
}

TEST_F(ShapeRules, RoutingHasRoomForAnyRouting) {
  const OpAttrs attrs{.experts = kE, .topk = kK, .block_rows = kBlock};
  EXPECT_EQ(Infer(OpKind::kRouter, {Tensor({kT, kH}), Tensor({kE, kH})}, attrs),
            (Shapes{{kT, kK}, {kT, kK}, {kT, kE}, {kE}, {kE}}));
  const Shapes layout = Infer(OpKind::kExpertLayout, {Ints({kT, kK}), kNone}, attrs);
  const int64_t blocks = layout[2][0];
  EXPECT_EQ(layout, (Shapes{{kT, kK}, {blocks * kBlock}, {blocks}, {1}}));
  // The worst routing leaves one token in the last block of every expert; no routing needs more blocks.
  int64_t worst = 0;
  for (int64_t a = 0; a <= kT * kK; ++a) {
    for (int64_t b = 0; a + b <= kT * kK; ++b) {
      for (int64_t c = 0; a + b + c <= kT * kK; ++c) {
        int64_t needed = 0;
        for (int64_t tokens : {a, b, c, kT * kK - a - b - c}) needed += (tokens + kBlock - 1) / kBlock;
        worst = std::max(worst, needed);
      }
    }
  }
  EXPECT_EQ(blocks, worst);
  const TensorId rows = Tensor({blocks * kBlock, kH}), pair_of_row = Ints({blocks * kBlock}), active = Ints({1});
  EXPECT_EQ(Infer(OpKind::kDispatch, {Tensor({kT, kH}), pair_of_row, active}, attrs), (Shapes{{blocks * kBlock, kH}}));
  EXPECT_EQ(Infer(OpKind::kDispatchGrad, {rows, Ints({kT, kK})}, attrs), (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kCombine, {Tensor({kT, kH}), rows, Tensor({kT, kK}), Ints({kT, kK})}, attrs),
            (Shapes{{kT, kH}}));
  EXPECT_EQ(Infer(OpKind::kCombineGrad, {Tensor({kT, kH}), rows, Tensor({kT, kK}), pair_of_row, active}, attrs),
            (Shapes{{blocks * kBlock, kH}, {kT, kK}}));
}

// From a part of the experts a token can choose no more than the part has; the remaining pairs are not laid out.
TEST_F(ShapeRules, PartsOfTheExpertsHaveRoomForAnyRouting) {
  const TensorId choices = Ints({kT, kK}), first = Ints({1});
  const auto blocks = [&](int64_t e) {
    return Infer(OpKind::kExpertLayout, {choices, first}, {.experts = e, .block_rows = kBlock, .experts_of_all = kE});
  };
  EXPECT_EQ(blocks(1), (Shapes{{kT, kK}, {kT}, {kT / kBlock}, {1}}));  // every token once
  EXPECT_EQ(blocks(2)[2], (Shape{(kT * kK + 2 * (kBlock - 1)) / kBlock}));
  EXPECT_EQ(Infer(OpKind::kCombine, {kNone, Tensor({20, kH}), Tensor({kT, kK}), choices}), (Shapes{{kT, kH}}));
}

using ShapeRulesDeathTest = ShapeRules;

TEST_F(ShapeRulesDeathTest, NameTheOperandThatDoesNotFit) {
  EXPECT_DEATH(Infer(OpKind::kMatmul, {Tensor({kT, kH}), Tensor({kF, kH})}), "Matmul input 1 has shape \\[16, 8\\]");
  EXPECT_DEATH(Infer(OpKind::kAddRmsNorm, {Tensor({kT, kH}), kNone, Tensor({kF})}), "AddRmsNorm input 2");
  EXPECT_DEATH(Infer(OpKind::kRouter, {Tensor({kT, kH}), Tensor({kE, kF})}, {.topk = kK}), "Router input 1");
  const TensorId base = Tensor({kT, kH}), choices = Tensor({kT, kK});
  EXPECT_DEATH(Infer(OpKind::kCombine, {base, Tensor({20, kF}), choices, Ints({kT, kK})}), "Combine input 1");
  EXPECT_DEATH(Infer(OpKind::kCombine, {base, Tensor({20, kH}), choices, Ints({kT})}), "Combine input 3");
  EXPECT_DEATH(Infer(OpKind::kCombine, {kNone, Tensor({20, kH}), choices, Ints({kT})}), "Combine input 3");
  EXPECT_DEATH(Infer(OpKind::kExpertLayout, {Ints({kT, kK}), Ints({2})}, {.experts = kE, .block_rows = kBlock}),
               "ExpertLayout input 1");
  EXPECT_DEATH(Infer(OpKind::kGatedAdd, {base, base, Tensor({5, kH})}, {.column_end = kH}), "GatedAdd input 2");
  EXPECT_DEATH(Infer(OpKind::kAddRows, {base, Tensor({5, kH})}), "AddRows input 1");
  EXPECT_DEATH(Infer(OpKind::kConcat, {base, Tensor({5, kH})}), "Concat input 1");
  EXPECT_DEATH(Infer(OpKind::kSplit, {base}, {.column_end = kH}), "Split input 0");
  const OpAttrs image{.height = 5, .width = 2, .kernel = 3, .pad_before = 1, .pad_after = 1};
  EXPECT_DEATH(Infer(OpKind::kConv2d, {base, Tensor({4, kH, 3, 3}), kNone}, image), "Conv2d input 0");
  EXPECT_DEATH(Infer(OpKind::kConv2d, {base, Tensor({4, kF, 3, 3}), kNone}, image), "Conv2d input 1");
  EXPECT_DEATH(Infer(OpKind::kGroupNorm, {base, Tensor({kH}), Tensor({kH})}, {.rows = 1, .groups = 3}),
               "GroupNorm input 0");
  EXPECT_DEATH(Infer(OpKind::kSwigluGrad, {Tensor({kT, kF}), Tensor({kT, kF}), kNone}), "SwigluGrad input 1");
  EXPECT_DEATH(Infer(OpKind::kLinearCrossEntropy, {base, Tensor({kV, kF}), Ints({kT})}), "LinearCrossEntropy input 1");
}

}  // namespace
}  // namespace angel_ptm
