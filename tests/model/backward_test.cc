// Structure of the backward graph and of recomputation.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "angel_ptm/model/access.h"
#include "tests/model/model_testing.h"

namespace angel_ptm {
namespace {

using model_testing::kSmallBatch;
using model_testing::SmallShape;

bool IsParameterGradient(const Graph& graph, TensorId t) {
  return t != kNone && graph.tensors[t].tensor_class == TensorClass::kGradient;
}

class Backward : public ::testing::TestWithParam<std::tuple<bool, bool, bool>> {  // moe, tied, recompute
 protected:
  Backward()
      : graph_(BuildHunyuanLmTraining(SmallShape(std::get<0>(GetParam()), std::get<1>(GetParam())), kSmallBatch,
                                      std::vector<bool>(3, std::get<2>(GetParam())))) {}
  const Graph graph_;
};

TEST_P(Backward, EveryParameterHasAGradientOfItsShapeAndPlace) {
  std::set<TensorId> gradients;
  for (size_t p = 0; p < graph_.parameters().size(); ++p) {
    ASSERT_NE(graph_.gradient_tensors[p], kNone) << graph_.parameters()[p].name;
    const Tensor &value = graph_.tensors[graph_.parameter_tensors[p]],
                 &gradient = graph_.tensors[graph_.gradient_tensors[p]];
    EXPECT_EQ(gradient.shape, value.shape);
    EXPECT_EQ(gradient.unit, value.unit);
    EXPECT_EQ(gradient.unit_offset, value.unit_offset);
    EXPECT_EQ(gradient.dtype, DType::kFloat32);
    EXPECT_TRUE(gradients.insert(graph_.gradient_tensors[p]).second);
  }
}

// The first writer of a gradient overwrites what memory happens to hold. Later ones add, or fill the columns that are
// left (for a qkv gradient, attention writes the values' columns and the norm those of queries and keys).
TEST_P(Backward, FirstWriterOverwritesLaterOnesAdd) {
  std::map<TensorId, int> writes;
  for (const Op& op : graph_.ops) {
    for (size_t slot = 0; slot < op.outputs.size(); ++slot) {
      const TensorId t = op.outputs[slot];
      if (t == kNone) continue;
      const bool first = writes[t]++ == 0;
      if (graph_.tensors[t].tensor_class == TensorClass::kCache) {
        EXPECT_TRUE(first && op.phase == Phase::kForward) << "added again: " << graph_.tensors[t].name;
        continue;
      }
      EXPECT_EQ(AccessOf(op, static_cast<int>(op.inputs.size() + slot)), first ? Access::kWrite : Access::kReadWrite)
          << Name(op.kind) << " -> " << graph_.tensors[t].name;
    }
  }
  const TensorId table = graph_.FindTensor("d embed_tokens");
  EXPECT_EQ(writes[table], std::get<1>(GetParam()) ? 2 : 1);  // tied: the head, then the embedding
  for (const TensorId gradient : graph_.gradient_tensors) EXPECT_GE(writes[gradient], 1);
}

TEST_P(Backward, OpsReadOnlyWhatWasWritten) {
  std::set<TensorId> written;
  for (size_t t = 0; t < graph_.tensors.size(); ++t) {
    const TensorClass c = graph_.tensors[t].tensor_class;
    if (c == TensorClass::kInput || c == TensorClass::kParameter) written.insert(static_cast<TensorId>(t));
  }
  for (const Op& op : graph_.ops) {
    for (TensorId t : op.inputs) {
      EXPECT_TRUE(t == kNone || written.contains(t)) << Name(op.kind) << " reads " << graph_.tensors[t].name;
      EXPECT_FALSE(IsParameterGradient(graph_, t)) << "micro-batch gradients are for the reduction only";
    }
    for (TensorId t : op.outputs) written.insert(t);
  }
}

TEST_P(Backward, PhasesComeInOrder) {
  bool backward = false;
  for (const Op& op : graph_.ops) {
    backward |= op.phase != Phase::kForward;
    EXPECT_EQ(op.phase != Phase::kForward, backward);
    if (op.phase == Phase::kRecompute) {
      EXPECT_TRUE(std::get<2>(GetParam()));
    }
  }
  EXPECT_EQ(graph_.update_begin, static_cast<OpId>(graph_.ops.size()));
}

INSTANTIATE_TEST_SUITE_P(Graphs, Backward, ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Bool()));

// The largest number of activation bytes alive between two ops.
int64_t PeakActivationBytes(const Graph& graph) {
  std::vector<int> first(graph.tensors.size(), -1), last(graph.tensors.size(), -1);
  for (int i = 0; i < static_cast<int>(graph.ops.size()); ++i) {
    for (const auto* list : {&graph.ops[i].inputs, &graph.ops[i].outputs}) {
      for (TensorId t : *list) {
        if (t == kNone || graph.tensors[t].tensor_class != TensorClass::kActivation) continue;
        if (first[t] < 0) first[t] = i;
        last[t] = i;
      }
    }
  }
  int64_t peak = 0;
  for (int i = 0; i < static_cast<int>(graph.ops.size()); ++i) {
    int64_t live = 0;
    for (size_t t = 0; t < graph.tensors.size(); ++t)
      live += first[t] >= 0 && first[t] <= i && i <= last[t] ? graph.tensors[t].bytes() : 0;
    peak = std::max(peak, live);
  }
  return peak;
}

TEST(Recomputation, KeepsFewerActivationBytes) {
  for (bool moe : {false, true}) {
    HunyuanLmShape shape = SmallShape(moe, true);
    shape.num_hidden_layers = 8;
    const auto peak = [&](int recomputed) {
      std::vector<bool> recompute(8, false);
      for (int i = 0; i < recomputed; ++i) recompute[i] = true;
      return PeakActivationBytes(BuildHunyuanLmTraining(shape, kSmallBatch, recompute));
    };
    const int64_t none = peak(0), half = peak(4), all = peak(8);
    EXPECT_LT(half, none);
    EXPECT_LT(all, half);
    EXPECT_LT(all, none / 3);
  }
}

TEST(Recomputation, RerunsTheBlocksForwardOpsOnTheirCheckpoint) {
  const Graph graph = BuildHunyuanLmTraining(SmallShape(true, true), kSmallBatch, {false, true, false});
  std::vector<OpKind> forward, again;
  for (const Op& op : graph.ops) {
    // No backward op reads the sum that closes the block or the shared expert's part of it.
    const bool unread =
        op.outputs[0] != kNone && (graph.tensors[op.outputs[0]].name == "layers.1.mlp.combine.y" ||
                                   graph.tensors[op.outputs[0]].name == "layers.1.mlp.shared_mlp.down.c");
    if (op.block == 1 && op.phase == Phase::kForward && !unread) forward.push_back(op.kind);
    if (op.phase != Phase::kRecompute) continue;
    EXPECT_EQ(op.block, 1);
    again.push_back(op.kind);
    for (TensorId t : op.outputs) {
      EXPECT_TRUE(t == kNone || graph.tensors[t].tensor_class == TensorClass::kActivation);
    }
    if (again.size() == 1) {
      EXPECT_EQ(op.kind, OpKind::kAddRmsNorm);
      EXPECT_EQ(graph.tensors[op.inputs[0]].name, "layers.1.input_norm.sum");
      EXPECT_EQ(op.inputs[1], kNone);
      EXPECT_EQ(op.outputs[0], kNone);
    }
  }
  EXPECT_EQ(again, forward);
}

TEST(Recomputation, BackwardReadsOnlyTheCheckpointOfTheForwardPass) {
  const Graph graph = BuildHunyuanLmTraining(SmallShape(true, false), kSmallBatch, {true, true, true});
  std::map<TensorId, const Op*> producer;
  for (const Op& op : graph.ops) {
    if (op.phase == Phase::kBackward && op.block != kNone) {
      for (TensorId t : op.inputs) {
        if (t == kNone || graph.tensors[t].tensor_class != TensorClass::kActivation || !producer.contains(t)) continue;
        const Op& source = *producer[t];
        if (source.phase != Phase::kForward || source.block != op.block) continue;
        EXPECT_EQ(source.kind, OpKind::kAddRmsNorm);
        EXPECT_EQ(t, source.outputs[0]) << graph.tensors[t].name;
      }
    }
    for (TensorId t : op.outputs) producer[t] = &op;
  }
}

TEST(Recomputation, ChangesTheGraphsDigestButNotItsParameters) {
  const Graph kept = BuildHunyuanLmTraining(SmallShape(false, true), kSmallBatch, {false, false, false});
  const Graph recomputed = BuildHunyuanLmTraining(SmallShape(false, true), kSmallBatch, {false, true, false});
  EXPECT_NE(Hash(kept), Hash(recomputed));
  EXPECT_EQ(kept.table->ParameterCount(), recomputed.table->ParameterCount());
}

}  // namespace
}  // namespace angel_ptm
