// Which calls the host backend says it accepts, and how much workspace it says they need.

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "kernels/ops/ema.h"
#include "kernels/ops/expert_layout.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/loss_sum.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/relative_attention.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/router.h"
#include "kernels/ops/square_sum.h"
#include "kernels/ops/swiglu.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTooLong = int64_t{1} << 31;

constexpr char kHeadDimension[] = " takes an even head dimension from 2 to ";
constexpr char kHeads[] = " takes query heads that are a multiple of key-value heads, got ";
constexpr char kExtents[] = " takes extents from 1 to 2^31 - 1, got ";

template <typename Args>
absl::Status CanRun(const Args& args) {
  return KernelOf<Args>(CpuKernels()).can_run(args);
}

template <typename Args>
void ExpectSupported(const Args& args) {
  EXPECT_TRUE(CanRun(args).ok()) << CanRun(args);
}

template <typename Args>
void ExpectRefused(const Args& args, const std::string& op, const std::string& why) {
  const absl::Status status = CanRun(args);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "cpu backend: " + op + why);
}

// The rules that all ops on heads share, starting from supported arguments.
template <typename Args>
void ExpectHeadRules(const Args& supported, const std::string& op, int64_t d_max = 256) {
  ExpectSupported(supported);
  for (const int64_t d : {int64_t{0}, int64_t{1}, int64_t{7}, d_max + 2}) {
    Args args = supported;
    args.d = d;
    ExpectRefused(args, op, absl::StrCat(kHeadDimension, d_max, ", got ", d));
  }
  Args args = supported;
  args.kv_heads = 3;
  ExpectRefused(args, op, std::string(kHeads) + "4 and 3");
  args.kv_heads = 0;
  ExpectRefused(args, op, std::string(kHeads) + "4 and 0");
  args = supported;
  args.d = d_max;
  ExpectSupported(args);
}

TEST(CpuCanRunTest, HeadsOfAttentionAndItsNorm) {
  ExpectHeadRules(QkRopeNormArgs{.t = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "qk_rope_norm");
  ExpectHeadRules(QkRopeNormGradArgs{.t = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "qk_rope_norm_grad");
  ExpectHeadRules(AttentionArgs{.b = 1, .s = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "attention", 512);
  ExpectHeadRules(AttentionGradArgs{.b = 1, .s = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "attention_grad", 512);
  ExpectHeadRules(CachedAttentionArgs{.b = 1, .s_max = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "cached_attention");
}

TEST(CpuCanRunTest, HeadsOfRelativeAttention) {
  RelativeAttentionArgs args{.b = 1, .s = 4, .heads = 2, .d = 64, .p = 3};
  ExpectSupported(args);
  args.d = 7;
  ExpectRefused(args, "relative_attention", std::string(kHeadDimension) + "256, got 7");
  args.d = 64, args.p = 0;
  ExpectRefused(args, "relative_attention", std::string(kExtents) + "0");
}

TEST(CpuCanRunTest, RowsOfAttention) {
  const std::string too_long = kExtents + std::to_string(kTooLong);
  ExpectRefused(AttentionArgs{.b = 1, .s = kTooLong, .q_heads = 4, .kv_heads = 2, .d = 64}, "attention", too_long);
  ExpectRefused(AttentionGradArgs{.b = 1, .s = kTooLong, .q_heads = 4, .kv_heads = 2, .d = 64}, "attention_grad",
                too_long);
  ExpectRefused(CachedAttentionArgs{.b = 1, .s_max = kTooLong, .q_heads = 4, .kv_heads = 2, .d = 64},
                "cached_attention", too_long);
  ExpectRefused(CachedAttentionArgs{.b = 0, .s_max = 4, .q_heads = 4, .kv_heads = 2, .d = 64}, "cached_attention",
                std::string(kExtents) + "0");
}

TEST(CpuCanRunTest, RopeTable) {
  ExpectSupported(RopeTableArgs{.t = 1, .d = 2});
  ExpectSupported(RopeTableArgs{.t = 1, .d = 4, .alpha = 10});
  ExpectRefused(RopeTableArgs{.t = 1, .d = 3}, "rope_table", std::string(kHeadDimension) + "256, got 3");
  ExpectRefused(RopeTableArgs{.t = 1, .d = 2, .alpha = 10}, "rope_table",
                " with alpha > 0 takes a head dimension above 2, got 2");
}

TEST(CpuCanRunTest, MatmulAndLossExtents) {
  const MatmulArgs matmul = {.m = 4, .n = 5, .k = kTooLong - 1};
  ExpectSupported(matmul);
  for (int64_t MatmulArgs::*extent : {&MatmulArgs::m, &MatmulArgs::n, &MatmulArgs::k}) {
    for (const int64_t bad : {kTooLong, int64_t{0}}) {
      MatmulArgs args = matmul;
      args.*extent = bad;
      ExpectRefused(args, "matmul", kExtents + std::to_string(bad));
    }
  }
  using Loss = LinearCrossEntropyArgs;
  const Loss loss = {.t = 4, .h = 5, .v = 6, .chunk_tokens = 7};
  ExpectSupported(loss);
  for (int64_t Loss::*extent : {&Loss::t, &Loss::h, &Loss::v, &Loss::chunk_tokens}) {
    for (const int64_t bad : {kTooLong, int64_t{0}}) {
      Loss args = loss;
      args.*extent = bad;
      ExpectRefused(args, "linear_cross_entropy", kExtents + std::to_string(bad));
    }
  }
}

TEST(CpuCanRunTest, SquareSumTakesWholeGroups) {
  ExpectSupported(SquareSumArgs{.n = 0});
  ExpectSupported(SquareSumArgs{.n = 512});
  ExpectRefused(SquareSumArgs{.n = 500}, "square_sum", " takes a multiple of 256 elements, got 500");
}

TEST(CpuCanRunTest, Router) {
  const RouterArgs router = {.t = 4, .h = 5, .e = 6, .k = 2};
  ExpectSupported(router);
  for (int64_t RouterArgs::*extent : {&RouterArgs::t, &RouterArgs::h, &RouterArgs::e}) {
    RouterArgs args = router;
    args.*extent = kTooLong;
    ExpectRefused(args, "router", kExtents + std::to_string(kTooLong));
  }
  for (const int64_t k : {0, 7}) {
    RouterArgs args = router;
    args.k = k;
    ExpectRefused(args, "router", " chooses from 1 to all of its 6 experts, got " + std::to_string(k));
  }
}

// T * K + E * (block_rows - 1) rows, padding included, must be numbered in 32 bits.
TEST(CpuCanRunTest, PaddedExpertRowsFitInt32) {
  ExpertLayoutArgs args = {.t = (int64_t{1} << 27) - 1, .k = 8, .e = 64, .block_rows = 16};
  ExpectSupported(args);
  args = {.t = (int64_t{1} << 28) - 1, .k = 8, .e = 7, .block_rows = 2};
  ExpectSupported(args);  // 2^31 - 1 rows
  args.e = 8;
  ExpectRefused(args, "expert_layout",
                " takes up to 2^31 - 1 padded rows, got 268435455 * 8 + 8 * (2 - 1) = 2147483648");
  args = {.t = 1, .k = 1, .e = 1 << 20, .block_rows = 1 << 20};  // one token, almost all padding
  EXPECT_FALSE(CanRun(args).ok());
  args = {.t = kTooLong, .k = 1, .e = 2, .block_rows = 1};
  ExpectRefused(args, "expert_layout", kExtents + std::to_string(kTooLong));
}

TEST(CpuCanRunTest, OtherTypesAreNamed) {
  const std::string why = " takes F32 operands, got BF16";
  const DType bf16 = DType::kBFloat16;
  ExpectRefused(RopeTableArgs{.cos_sin = {.dtype = bf16}, .t = 1, .d = 2}, "rope_table", why);
  ExpectRefused(SquareSumArgs{.values = {.dtype = DType::kInt32}}, "square_sum",
                " takes values in F32 or in BF16; got values in I32");
  ExpectRefused(LossSumArgs{.values = {.dtype = bf16}}, "loss_sum", why);
  ExpectRefused(AdamWArgs{.m = {.dtype = bf16}}, "adamw", why);
  ExpectRefused(EmaArgs{.param = {.dtype = bf16}}, "ema", why);
}

// The [T,V] logits never exist as a whole, only one chunk of them, with no more tokens than there are.
TEST(CpuWorkspaceBytesTest, TheLossHoldsOneChunkOfLogits) {
  const int64_t v = 1000, chunk = 16;
  for (const bool gradient : {false, true}) {
    float any = 0;
    LinearCrossEntropyArgs args = {.h = 8, .v = v, .chunk_tokens = chunk};
    if (gradient) args.dx = args.dweight = {&any};
    for (const int64_t t : {int64_t{1}, chunk - 1, chunk, chunk + 1, 100 * chunk, int64_t{1} << 30}) {
      args.t = t;
      for (const int threads : {1, 7}) EXPECT_EQ(WorkspaceBytes(args, threads), std::min(t, chunk) * v * 4) << t;
    }
  }
}

// RunKernel relies on this: a kernel that writes beyond its workspace fails the test.
TEST(TestContextTest, WritingBehindTheWorkspaceIsAFailure) {
  const std::vector<int32_t> experts = {2, 0, 1};
  std::vector<int32_t> row_of_pair(3), pair_of_row(3), block_expert(3);
  int32_t active_blocks = 0;
  const ExpertLayoutArgs args = {.row_of_pair = row_of_pair.data(),
                                 .pair_of_row = pair_of_row.data(),
                                 .block_expert = block_expert.data(),
                                 .active_blocks = &active_blocks,
                                 .experts = experts.data(),
                                 .t = 3,
                                 .k = 1,
                                 .e = 3,
                                 .block_rows = 1,
                                 .blocks_max = 3};
  const int64_t bytes = WorkspaceBytes(args, 1);
  CpuKernels().expert_layout(args, TestContext(1, bytes));
  EXPECT_NONFATAL_FAILURE(CpuKernels().expert_layout(args, TestContext(1, bytes - 4)),
                          "written behind the workspace of 8 bytes");
}

}  // namespace
}  // namespace angel_ptm
