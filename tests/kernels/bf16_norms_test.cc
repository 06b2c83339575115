// The bf16 variants of add_rms_norm and qk_rope_norm: fp32 statistics and sums, one rounding of every output.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/qk_rope_norm.h"
#include "tests/reference/qk_rope_norm.h"
#include "tests/reference/rms_norm.h"
#include "tests/reference/rope.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr float kBf16NormsEpsilon = 1e-5f;
constexpr double kBf16NormsFp32Error = 2e-6;  // of the arithmetic before the rounding, over the largest value

struct NormShape {
  int64_t t, h;
  bool delta;
};

struct Bf16NormRun {
  explicit Bf16NormRun(const NormShape& s)
      : shape(s),
        random(21),
        x(s.t * s.h, random, 2.0f),
        delta(s.t * s.h, random),
        weight(s.h, random),
        dy(s.t * s.h, random),
        dsum(s.t * s.h, random),
        before(s.h, random),
        sum(s.t * s.h),
        y(s.t * s.h),
        dx(s.t * s.h),
        dweight(s.h),
        dweight_sum(s.h),
        rstd(s.t),
        dweight32(s.h) {}

  AddRmsNormGradArgs Grad(Operand to, bool accumulate) {
    AddRmsNormGradArgs args = {.dx = dx,
                               .dweight = to,
                               .dy = dy,
                               .sum = shape.delta ? sum : x,
                               .rstd = rstd,
                               .weight = weight,
                               .t = shape.t,
                               .h = shape.h,
                               .accumulate_dweight = accumulate};
    if (shape.delta) args.dsum = dsum;
    return args;
  }
  void Run(int threads) {
    AddRmsNormArgs args = {
        .y = y, .rstd = rstd, .x = x, .weight = weight, .t = shape.t, .h = shape.h, .epsilon = kBf16NormsEpsilon};
    if (shape.delta) {
      args.sum = sum;
      args.delta = delta;
    }
    EXPECT_TRUE(CpuKernels().add_rms_norm.can_run(args).ok());
    RunKernel(CpuKernels().add_rms_norm, args, threads);
    dweight_sum.CopyFrom(before);
    RunKernel(CpuKernels().add_rms_norm_grad, Grad(dweight_sum, true), threads);
    RunKernel(CpuKernels().add_rms_norm_grad, Grad(dweight32, false), threads);
    EXPECT_TRUE(CpuKernels().add_rms_norm_grad.can_run(Grad(dweight, false)).ok());
    RunKernel(CpuKernels().add_rms_norm_grad, Grad(dweight, false), threads);
  }
  bool SameBits(const Bf16NormRun& o) const {
    return sum.SameBits(o.sum) && y.SameBits(o.y) && rstd.SameBits(o.rstd) && dx.SameBits(o.dx) &&
           dweight.SameBits(o.dweight) && dweight_sum.SameBits(o.dweight_sum) && dweight32.SameBits(o.dweight32);
  }

  NormShape shape;
  std::mt19937 random;
  Bf16Tensor x, delta, weight, dy, dsum, before, sum, y, dx, dweight, dweight_sum;
  TestTensor rstd, dweight32;
};

class Bf16AddRmsNormTest : public testing::TestWithParam<NormShape> {};

TEST_P(Bf16AddRmsNormTest, AgreesWithReference) {
  const auto [t, h, with_delta] = GetParam();
  Bf16NormRun got(GetParam());
  got.Run(1);
  for (const int threads : {2, 3, 4}) {
    Bf16NormRun threaded(GetParam());
    threaded.Run(threads);
    EXPECT_TRUE(got.SameBits(threaded));
  }
  // The norm applies to the sum as it is stored.
  if (with_delta) {
    for (int64_t i = 0; i < t * h; ++i) ASSERT_EQ(got.sum[i], ToFloat(ToBFloat16(got.x[i] + got.delta[i])));
  }
  const std::vector<double> sum = with_delta ? got.sum.ToDouble() : got.x.ToDouble(), weight = got.weight.ToDouble();
  std::vector<double> want(t * h), want_rstd(t), want_dx(t * h), want_dweight(h), want_sum = got.before.ToDouble();
  reference::RmsNorm(want.data(), want_rstd.data(), sum.data(), weight.data(), t, h,
                     static_cast<double>(kBf16NormsEpsilon));
  reference::RmsNormGrad(want_dx.data(), want_dweight.data(), got.dy.ToDouble().data(), sum.data(), weight.data(), t, h,
                         static_cast<double>(kBf16NormsEpsilon));
  for (int64_t i = 0; i < t * h && with_delta; ++i) want_dx[i] += static_cast<double>(got.dsum[i]);
  for (int64_t i = 0; i < h; ++i) want_sum[i] += want_dweight[i];
  EXPECT_LT(ErrorBeyondRounding(got.y, want), kBf16NormsFp32Error);
  EXPECT_LT(ScaledError(got.rstd, want_rstd), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dx, want_dx), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dweight, want_dweight), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dweight_sum, want_sum), kBf16NormsFp32Error);
  EXPECT_LT(ScaledError(got.dweight32, want_dweight), kBf16NormsFp32Error);
  AddToOpTable({"add_rms_norm bf16", absl::StrCat("T=", t, " H=", h, with_delta ? " with delta" : ""),
                ScaledError(got.y, want),
                std::max(ScaledError(got.dx, want_dx), ScaledError(got.dweight, want_dweight))});
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16AddRmsNormTest,
                         testing::Values(NormShape{1, 2, false}, NormShape{1, 16, true}, NormShape{3, 17, true},
                                         NormShape{65, 80, false}, NormShape{130, 64, true}, NormShape{17, 333, true},
                                         NormShape{1500, 24, true}));

TEST(Bf16AddRmsNormTest, NanStaysInItsRow) {
  const NormShape shape = {5, 70, true};
  Bf16NormRun got(shape);
  got.delta.Set(2 * 70 + 66, kNan);
  got.Run(2);
  for (int64_t token = 0; token < shape.t; ++token) {
    const int64_t begin = token * 70, end = begin + 70;
    EXPECT_TRUE(token == 2 ? got.y.AllNan(begin, end) : got.y.NoneNan(begin, end));
    EXPECT_TRUE(token == 2 ? got.dx.AllNan(begin, end) : got.dx.NoneNan(begin, end));
  }
  EXPECT_TRUE(got.dweight.AllNan(0, 70));
}

struct HeadShape {
  int64_t t, q_heads, kv_heads, d;
  int64_t row() const { return (q_heads + 2 * kv_heads) * d; }
};

struct Heads {
  explicit Heads(const HeadShape& s)
      : shape(s),
        random(23),
        qkv(s.t * s.row(), random),
        q_weight(s.d, random),
        k_weight(s.d, random),
        dq(s.t * s.q_heads * s.d, random),
        dk(s.t * s.kv_heads * s.d, random),
        before(s.d, random),
        q(dq.size()),
        k(dk.size()),
        dqkv(qkv.size()),
        dq_weight(s.d),
        dk_weight(s.d),
        cos_sin(s.t * s.d),
        q_rstd(s.t * s.q_heads),
        k_rstd(s.t * s.kv_heads),
        dq_weight32(s.d) {
    std::vector<int32_t> positions(s.t);
    for (int64_t i = 0; i < s.t; ++i) positions[i] = static_cast<int32_t>(3 * i);
    std::vector<double> table(s.t * s.d);
    reference::RopeTable(table.data(), positions.data(), s.t, s.d, 10000, 0);
    for (int64_t i = 0; i < s.t * s.d; ++i) cos_sin[i] = static_cast<float>(table[i]);
  }
  QkRopeNormGradArgs Grad(Operand to_q, Operand to_k, bool accumulate) {
    return {.dqkv = dqkv,
            .dq_weight = to_q,
            .dk_weight = to_k,
            .dq = dq,
            .dk = dk,
            .qkv = qkv,
            .q_rstd = q_rstd,
            .k_rstd = k_rstd,
            .cos_sin = cos_sin,
            .q_weight = q_weight,
            .k_weight = k_weight,
            .t = shape.t,
            .q_heads = shape.q_heads,
            .kv_heads = shape.kv_heads,
            .d = shape.d,
            .accumulate_dweight = accumulate};
  }
  void Run(int threads) {
    const QkRopeNormArgs args = {.q = q,
                                 .k = k,
                                 .q_rstd = q_rstd,
                                 .k_rstd = k_rstd,
                                 .qkv = qkv,
                                 .cos_sin = cos_sin,
                                 .q_weight = q_weight,
                                 .k_weight = k_weight,
                                 .t = shape.t,
                                 .q_heads = shape.q_heads,
                                 .kv_heads = shape.kv_heads,
                                 .d = shape.d,
                                 .epsilon = kBf16NormsEpsilon};
    EXPECT_TRUE(CpuKernels().qk_rope_norm.can_run(args).ok());
    RunKernel(CpuKernels().qk_rope_norm, args, threads);
    EXPECT_TRUE(CpuKernels().qk_rope_norm_grad.can_run(Grad(dq_weight32, dk_weight, true)).ok());
    RunKernel(CpuKernels().qk_rope_norm_grad, Grad(dq_weight32, {}, false), threads);
    RunKernel(CpuKernels().qk_rope_norm_grad, Grad(dq_weight, {}, false), threads);
    dk_weight.CopyFrom(before);
    RunKernel(CpuKernels().qk_rope_norm_grad, Grad({}, dk_weight, true), threads);
  }
  bool SameBits(const Heads& o) const {
    return q.SameBits(o.q) && k.SameBits(o.k) && q_rstd.SameBits(o.q_rstd) && k_rstd.SameBits(o.k_rstd) &&
           dqkv.SameBits(o.dqkv) && dq_weight.SameBits(o.dq_weight) && dk_weight.SameBits(o.dk_weight) &&
           dq_weight32.SameBits(o.dq_weight32);
  }

  HeadShape shape;
  std::mt19937 random;
  Bf16Tensor qkv, q_weight, k_weight, dq, dk, before, q, k, dqkv, dq_weight, dk_weight;
  TestTensor cos_sin, q_rstd, k_rstd, dq_weight32;
};

class Bf16QkRopeNormTest : public testing::TestWithParam<HeadShape> {};

TEST_P(Bf16QkRopeNormTest, AgreesWithReference) {
  const HeadShape s = GetParam();
  Heads got(s);
  got.Run(1);
  for (const int threads : {2, 3, 4}) {
    Heads threaded(s);
    threaded.Run(threads);
    EXPECT_TRUE(got.SameBits(threaded));
  }
  const reference::QkShape shape = {s.t, s.q_heads, s.kv_heads, s.d, static_cast<double>(kBf16NormsEpsilon)};
  const std::vector<double> qkv = got.qkv.ToDouble(), cos_sin = got.cos_sin.ToDouble(),
                            q_weight = got.q_weight.ToDouble(), k_weight = got.k_weight.ToDouble();
  std::vector<double> q(got.q.size()), k(got.k.size()), q_rstd(got.q_rstd.size()), k_rstd(got.k_rstd.size());
  std::vector<double> dqkv(got.dqkv.size()), dq_weight(s.d), dk_weight(s.d);
  reference::QkRopeNorm(q.data(), k.data(), q_rstd.data(), k_rstd.data(), qkv.data(), cos_sin.data(), q_weight.data(),
                        k_weight.data(), shape);
  reference::QkRopeNormGrad(dqkv.data(), dq_weight.data(), dk_weight.data(), got.dq.ToDouble().data(),
                            got.dk.ToDouble().data(), qkv.data(), cos_sin.data(), q_weight.data(), k_weight.data(),
                            shape);
  // The value columns belong to another op: they keep their NaN, and are zero in the reference.
  for (int64_t token = 0; token < s.t; ++token) {
    const int64_t begin = token * s.row() + (s.q_heads + s.kv_heads) * s.d, end = (token + 1) * s.row();
    EXPECT_TRUE(got.dqkv.AllNan(begin, end));
    for (int64_t i = begin; i < end; ++i) got.dqkv.Set(i, 0);
  }
  for (int64_t i = 0; i < s.d; ++i) dk_weight[i] += static_cast<double>(got.before[i]);
  EXPECT_LT(std::max(ErrorBeyondRounding(got.q, q), ErrorBeyondRounding(got.k, k)), kBf16NormsFp32Error);
  EXPECT_LT(std::max(ScaledError(got.q_rstd, q_rstd), ScaledError(got.k_rstd, k_rstd)), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dqkv, dqkv), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dq_weight, dq_weight), kBf16NormsFp32Error);
  EXPECT_LT(ErrorBeyondRounding(got.dk_weight, dk_weight), kBf16NormsFp32Error);
  EXPECT_LT(ScaledError(got.dq_weight32, dq_weight), kBf16NormsFp32Error);
  AddToOpTable({"qk_rope_norm bf16", absl::StrCat("T=", s.t, " Q=", s.q_heads, " G=", s.kv_heads, " D=", s.d),
                std::max(ScaledError(got.q, q), ScaledError(got.k, k)),
                std::max(ScaledError(got.dqkv, dqkv), ScaledError(got.dq_weight, dq_weight))});
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16QkRopeNormTest,
                         testing::Values(HeadShape{1, 1, 1, 2}, HeadShape{3, 2, 1, 8}, HeadShape{17, 4, 2, 16},
                                         HeadShape{65, 4, 1, 64}, HeadShape{130, 4, 4, 80}, HeadShape{33, 2, 1, 128},
                                         HeadShape{1100, 1, 1, 6}));

TEST(Bf16QkRopeNormTest, NanStaysInItsHead) {
  const HeadShape s = {3, 2, 1, 64};
  Heads got(s);
  got.qkv.Set(s.row() + s.d + 5, kNan);  // the second token's second query
  got.Run(1);
  for (int64_t head = 0; head < s.t * s.q_heads; ++head) {
    const int64_t begin = head * s.d, end = begin + s.d;
    EXPECT_TRUE(head == 3 ? got.q.AllNan(begin, end) : got.q.NoneNan(begin, end));
  }
  EXPECT_TRUE(got.k.NoneNan(0, got.k.size()));
  EXPECT_TRUE(got.dqkv.NoneNan(s.row(), s.row() + s.d));
  EXPECT_TRUE(got.dqkv.AllNan(s.row() + s.d, s.row() + 2 * s.d));
  EXPECT_TRUE(got.dq_weight.AllNan(0, s.d));
}

}  // namespace
}  // namespace angel_ptm
