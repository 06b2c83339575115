// Which combinations of fp32 and bf16 the host backend accepts, and its errors for the others.
#include <gtest/gtest.h>

#include <string>

#include "kernels/ops/adamw.h"
#include "kernels/ops/add.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/relative_attention.h"
#include "kernels/ops/router.h"
#include "kernels/ops/swiglu.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

const Operand kBf16 = {nullptr, DType::kBFloat16};
const ConstOperand kConstBf16 = {nullptr, DType::kBFloat16};

// An op's bf16 call without addresses, as a planner asks about it.
template <typename Args>
struct MixedTypes {
  const char* op;
  Args bf16;

  void ExpectTaken(const Args& args) const {
    const absl::Status status = KernelOf<Args>(CpuKernels()).can_run(args);
    EXPECT_TRUE(status.ok()) << status;
  }
  void ExpectRefused(const Args& args, const std::string& why) const {
    const absl::Status status = KernelOf<Args>(CpuKernels()).can_run(args);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(std::string(status.message()), "cpu backend: " + std::string(op) + why);
  }
  // The call with one operand of another type.
  template <typename Field>
  Args With(Field Args::*field, DType dtype) const {
    Args args = bf16;
    (args.*field).dtype = dtype;
    return args;
  }
  // Each of these operands is refused with the other type. The operand gets an address, since without one it may count
  // as absent.
  template <typename... Fields>
  void ExpectAllMatter(Fields Args::*... fields) const {
    ExpectTaken(bf16);
    float element = 0;
    const auto expect_refused = [&](auto field) {
      Args args = bf16;
      auto& operand = args.*field;
      operand.data = &element;
      operand.dtype = operand.dtype == DType::kBFloat16 ? DType::kFloat32 : DType::kBFloat16;
      EXPECT_FALSE(KernelOf<Args>(CpuKernels()).can_run(args).ok()) << op;
    };
    (expect_refused(fields), ...);
  }
};

TEST(MixedTypesTest, Elementwise) {
  using G = SwigluGradArgs;
  const MixedTypes<SwigluArgs> swiglu = {"swiglu", {.y = kBf16, .gate_up = kConstBf16, .f = 1}};
  swiglu.ExpectAllMatter(&SwigluArgs::y, &SwigluArgs::gate_up);
  swiglu.ExpectRefused(swiglu.With(&SwigluArgs::gate_up, DType::kFloat32),
                       " takes y, gate_up in F32 or all in BF16; got gate_up in F32 beside y in BF16");
  swiglu.ExpectRefused(swiglu.With(&SwigluArgs::y, DType::kInt32),
                       " takes y, gate_up in F32 or all in BF16; got y in I32");
  const MixedTypes<G> swiglu_grad = {"swiglu_grad", {.dgate_up = kBf16, .dy = kConstBf16, .gate_up = kConstBf16}};
  swiglu_grad.ExpectAllMatter(&G::dgate_up, &G::dy, &G::gate_up);
  const MixedTypes<GeluArgs> gelu = {"gelu", {.y = kBf16, .x = kConstBf16}};
  gelu.ExpectAllMatter(&GeluArgs::y, &GeluArgs::x);
  const MixedTypes<GeluGradArgs> gelu_grad = {"gelu_grad", {.dx = kBf16, .dy = kConstBf16, .x = kConstBf16}};
  gelu_grad.ExpectAllMatter(&GeluGradArgs::dx, &GeluGradArgs::dy, &GeluGradArgs::x);
  const MixedTypes<AddArgs> add = {"add", {.y = kBf16, .x = kConstBf16}};
  add.ExpectAllMatter(&AddArgs::y, &AddArgs::x);
  add.ExpectTaken({.y = kBf16});  // without x
}

TEST(MixedTypesTest, Embedding) {
  using G = EmbeddingGradArgs;
  const MixedTypes<EmbeddingArgs> embedding = {"embedding", {.y = kBf16, .table = kConstBf16}};
  embedding.ExpectAllMatter(&EmbeddingArgs::y, &EmbeddingArgs::table);
  const MixedTypes<G> grad = {"embedding_grad", {.dtable = kBf16, .dy = kConstBf16}};
  grad.ExpectAllMatter(&G::dy);
  grad.ExpectTaken(grad.With(&G::dtable, DType::kFloat32));
  grad.ExpectRefused(grad.With(&G::dy, DType::kFloat32),
                     " takes dy in F32 or in BF16; dtable likewise or in F32; got dtable in BF16 beside dy in F32");
}

TEST(MixedTypesTest, Norms) {
  using N = AddRmsNormArgs;
  using G = AddRmsNormGradArgs;
  const MixedTypes<N> norm = {"add_rms_norm",
                              {.sum = kBf16, .y = kBf16, .x = kConstBf16, .delta = kConstBf16, .weight = kConstBf16}};
  norm.ExpectAllMatter(&N::sum, &N::y, &N::rstd, &N::x, &N::delta, &N::weight);
  norm.ExpectTaken({.y = kBf16, .x = kConstBf16, .weight = kConstBf16});  // without delta and sum
  norm.ExpectRefused(norm.With(&N::rstd, DType::kBFloat16),
                     " takes y, x, weight, sum, delta in F32 or all in BF16; rstd in F32; got rstd in BF16 beside y in "
                     "BF16");
  const MixedTypes<G> norm_grad = {
      "add_rms_norm_grad",
      {.dx = kBf16, .dweight = kBf16, .dy = kConstBf16, .dsum = kConstBf16, .sum = kConstBf16, .weight = kConstBf16}};
  norm_grad.ExpectAllMatter(&G::dx, &G::dy, &G::dsum, &G::sum, &G::rstd, &G::weight);
  norm_grad.ExpectTaken(norm_grad.With(&G::dweight, DType::kFloat32));
  norm_grad.ExpectTaken({.dy = kConstBf16, .sum = kConstBf16, .weight = kConstBf16});
}

TEST(MixedTypesTest, Heads) {
  using N = QkRopeNormArgs;
  using G = QkRopeNormGradArgs;
  const MixedTypes<N> norm = {"qk_rope_norm",
                              {.q = kBf16,
                               .k = kBf16,
                               .qkv = kConstBf16,
                               .q_weight = kConstBf16,
                               .k_weight = kConstBf16,
                               .q_heads = 1,
                               .kv_heads = 1,
                               .d = 2}};
  norm.ExpectAllMatter(&N::q, &N::k, &N::q_rstd, &N::k_rstd, &N::qkv, &N::cos_sin, &N::q_weight, &N::k_weight);
  const MixedTypes<G> grad = {"qk_rope_norm_grad",
                              {.dqkv = kBf16,
                               .dq_weight = kBf16,
                               .dk_weight = kBf16,
                               .dq = kConstBf16,
                               .dk = kConstBf16,
                               .qkv = kConstBf16,
                               .q_weight = kConstBf16,
                               .k_weight = kConstBf16,
                               .q_heads = 1,
                               .kv_heads = 1,
                               .d = 2}};
  grad.ExpectAllMatter(&G::dqkv, &G::dq, &G::dk, &G::qkv, &G::q_rstd, &G::k_rstd, &G::cos_sin, &G::q_weight,
                       &G::k_weight);
  grad.ExpectTaken(grad.With(&G::dk_weight, DType::kFloat32));
  grad.ExpectRefused(
      grad.With(&G::dq, DType::kFloat32),
      " takes qkv, dqkv, dq, dk, q_weight, k_weight in F32 or all in BF16; dq_weight, dk_weight likewise "
      "or in F32; q_rstd, k_rstd, cos_sin in F32; got dq in F32 beside qkv in BF16");
}

TEST(MixedTypesTest, Experts) {
  using R = RouterArgs;
  using RG = RouterGradArgs;
  const MixedTypes<R> router = {"router", {.x = kConstBf16, .gate = kConstBf16, .t = 1, .h = 1, .e = 1, .k = 1}};
  router.ExpectAllMatter(&R::weights, &R::probs, &R::x, &R::gate);
  router.ExpectRefused(router.With(&R::x, DType::kFloat32),
                       " takes x, gate in F32 or all in BF16; weights, probs in F32; got gate in BF16 beside x in F32");
  const MixedTypes<RG> router_grad = {"router_grad",
                                      {.dx = kBf16, .dgate = kBf16, .x = kConstBf16, .gate = kConstBf16}};
  router_grad.ExpectAllMatter(&RG::dx, &RG::dweights, &RG::weights, &RG::probs, &RG::x, &RG::gate);
  router_grad.ExpectTaken(router_grad.With(&RG::dgate, DType::kFloat32));
  const MixedTypes<DispatchArgs> dispatch = {"dispatch", {.rows = kBf16, .x = kConstBf16}};
  dispatch.ExpectAllMatter(&DispatchArgs::rows, &DispatchArgs::x);
  const MixedTypes<DispatchGradArgs> dispatch_grad = {"dispatch_grad", {.dx = kBf16, .drows = kConstBf16}};
  dispatch_grad.ExpectAllMatter(&DispatchGradArgs::dx, &DispatchGradArgs::drows);
  using C = CombineArgs;
  const MixedTypes<C> combine = {"combine", {.y = kBf16, .base = kConstBf16, .rows = kConstBf16}};
  combine.ExpectAllMatter(&C::y, &C::base, &C::rows, &C::weights);
  using CG = CombineGradArgs;
  const MixedTypes<CG> combine_grad = {"combine_grad", {.drows = kBf16, .dy = kConstBf16, .rows = kConstBf16}};
  combine_grad.ExpectAllMatter(&CG::drows, &CG::dweights, &CG::dy, &CG::rows, &CG::weights);
}

TEST(MixedTypesTest, AdamW) {
  float element = 0;
  const Operand fp32 = {&element};
  const MixedTypes<AdamWArgs> adamw = {"adamw", {.param = kBf16, .master = fp32}};
  adamw.ExpectAllMatter(&AdamWArgs::param, &AdamWArgs::master, &AdamWArgs::m, &AdamWArgs::v);
  adamw.ExpectTaken(adamw.With(&AdamWArgs::grad, DType::kBFloat16));
  adamw.ExpectRefused({.grad = kConstBf16}, " takes F32 operands, got BF16");
  const std::string why = " takes param in F32 without a master or in BF16 with one, got ";
  adamw.ExpectRefused({.param = {&element, DType::kBFloat16}}, why + "BF16 without");
  adamw.ExpectRefused({.param = fp32, .master = fp32}, why + "F32 with one");
}

TEST(MixedTypesTest, Products) {
  const MixedTypes<MatmulArgs> matmul = {"matmul",
                                         {.c = kBf16, .a = kConstBf16, .b = kConstBf16, .m = 1, .n = 1, .k = 1}};
  matmul.ExpectAllMatter(&MatmulArgs::a, &MatmulArgs::b);
  matmul.ExpectTaken(matmul.With(&MatmulArgs::c, DType::kFloat32));
  matmul.ExpectRefused(matmul.With(&MatmulArgs::b, DType::kFloat32),
                       " takes a, b in F32 or all in BF16; c likewise or in F32; got b in F32 beside a in BF16");
  matmul.ExpectRefused({.c = kBf16, .m = 1, .n = 1, .k = 1},
                       " takes a, b in F32 or all in BF16; c likewise or in F32; got c in BF16 beside a in F32");
  const MixedTypes<GroupedMatmulArgs> grouped = {"grouped_matmul", {.c = kBf16, .a = kConstBf16, .b = kConstBf16}};
  grouped.ExpectAllMatter(&GroupedMatmulArgs::a, &GroupedMatmulArgs::b);
  using G = GroupedMatmulGradWeightArgs;
  const MixedTypes<G> grad = {"grouped_matmul_grad_weight", {.dw = kBf16, .dy = kConstBf16, .x = kConstBf16}};
  grad.ExpectAllMatter(&G::dy, &G::x);
  grad.ExpectTaken(grad.With(&G::dw, DType::kFloat32));
  using Loss = LinearCrossEntropyArgs;
  const MixedTypes<Loss> loss = {"linear_cross_entropy",
                                 {.dx = kBf16,
                                  .dweight = kBf16,
                                  .x = kConstBf16,
                                  .weight = kConstBf16,
                                  .t = 1,
                                  .h = 1,
                                  .v = 1,
                                  .chunk_tokens = 1}};
  loss.ExpectAllMatter(&Loss::token_loss, &Loss::x, &Loss::weight);
  loss.ExpectTaken(loss.With(&Loss::dweight, DType::kFloat32));
}

TEST(MixedTypesTest, Attention) {
  using A = AttentionArgs;
  const MixedTypes<A> attention = {"attention",
                                   {.o = kBf16,
                                    .q = kConstBf16,
                                    .k = kConstBf16,
                                    .v = kConstBf16,
                                    .b = 1,
                                    .s = 1,
                                    .q_heads = 1,
                                    .kv_heads = 1,
                                    .d = 2}};
  attention.ExpectAllMatter(&A::o, &A::lse, &A::q, &A::k, &A::v);
  using G = AttentionGradArgs;
  const MixedTypes<G> grad = {"attention_grad",
                              {.dq = kBf16,
                               .dk = kBf16,
                               .dv = kBf16,
                               .do_ = kConstBf16,
                               .o = kConstBf16,
                               .q = kConstBf16,
                               .k = kConstBf16,
                               .v = kConstBf16,
                               .b = 1,
                               .s = 1,
                               .q_heads = 1,
                               .kv_heads = 1,
                               .d = 2}};
  grad.ExpectAllMatter(&G::dq, &G::dk, &G::dv, &G::do_, &G::o, &G::lse, &G::q, &G::k, &G::v);
  using C = CachedAttentionArgs;
  const MixedTypes<C> cached = {"cached_attention",
                                {.o = kBf16,
                                 .k_cache = kBf16,
                                 .v_cache = kBf16,
                                 .q = kConstBf16,
                                 .k = kConstBf16,
                                 .v = kConstBf16,
                                 .b = 1,
                                 .s_max = 1,
                                 .q_heads = 1,
                                 .kv_heads = 1,
                                 .d = 2}};
  cached.ExpectAllMatter(&C::o, &C::k_cache, &C::v_cache, &C::q, &C::k, &C::v);
  using R = RelativeAttentionArgs;
  const MixedTypes<R> relative = {
      "relative_attention",
      {.o = kBf16, .qkv = kConstBf16, .table = kConstBf16, .b = 1, .s = 1, .heads = 1, .d = 2, .p = 1}};
  relative.ExpectAllMatter(&R::o, &R::qkv, &R::table);
}

}  // namespace
}  // namespace angel_ptm
