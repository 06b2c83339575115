#include "tests/reference/qk_rope_norm.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/qk_rope_norm.h"
#include "tests/reference/rope.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

constexpr float kQkRopeNormEpsilon = 1e-5f;

struct QkRopeNormShape {
  int64_t t, q_heads, kv_heads, d;
  int64_t row() const { return (q_heads + 2 * kv_heads) * d; }
};

struct Inputs {
  explicit Inputs(const QkRopeNormShape& s)
      : random(23),
        qkv(s.t * s.row(), random),
        q_weight(s.d, random),
        k_weight(s.d, random),
        dq(s.t * s.q_heads * s.d, random),
        dk(s.t * s.kv_heads * s.d, random),
        cos_sin(s.t * s.d) {
    std::vector<int32_t> positions(s.t);
    for (int64_t i = 0; i < s.t; ++i) positions[i] = static_cast<int32_t>(3 * i);
    std::vector<double> table(s.t * s.d);
    reference::RopeTable(table.data(), positions.data(), s.t, s.d, 10000, 0);
    for (int64_t i = 0; i < s.t * s.d; ++i) cos_sin[i] = static_cast<float>(table[i]);
  }
  std::mt19937 random;
  TestTensor qkv, q_weight, k_weight, dq, dk, cos_sin;
};

struct Outputs {
  explicit Outputs(const QkRopeNormShape& s)
      : shape(s),
        q(s.t * s.q_heads * s.d),
        k(s.t * s.kv_heads * s.d),
        q_rstd(s.t * s.q_heads),
        k_rstd(s.t * s.kv_heads),
        dqkv(s.t * s.row()),
        dq_weight(s.d),
        dk_weight(s.d) {}
  void Run(Inputs& in, int threads, bool accumulate = false) {
    const QkRopeNormArgs args = {.q = q,
                                 .k = k,
                                 .q_rstd = q_rstd,
                                 .k_rstd = k_rstd,
                                 .qkv = in.qkv,
                                 .cos_sin = in.cos_sin,
                                 .q_weight = in.q_weight,
                                 .k_weight = in.k_weight,
                                 .t = shape.t,
                                 .q_heads = shape.q_heads,
                                 .kv_heads = shape.kv_heads,
                                 .d = shape.d,
                                 .epsilon = kQkRopeNormEpsilon};
    RunKernel(CpuKernels().qk_rope_norm, args, threads);
    const QkRopeNormGradArgs grad = {.dqkv = dqkv,
                                     .dq_weight = dq_weight,
                                     .dk_weight = dk_weight,
                                     .dq = in.dq,
                                     .dk = in.dk,
                                     .qkv = in.qkv,
                                     .q_rstd = q_rstd,
                                     .k_rstd = k_rstd,
                                     .cos_sin = in.cos_sin,
                                     .q_weight = in.q_weight,
                                     .k_weight = in.k_weight,
                                     .t = shape.t,
                                     .q_heads = shape.q_heads,
                                     .kv_heads = shape.kv_heads,
                                     .d = shape.d,
                                     .accumulate_dweight = accumulate};
    RunKernel(CpuKernels().qk_rope_norm_grad, grad, threads);
  }
  bool SameBits(const Outputs& other) const {
    return q.SameBits(other.q) && k.SameBits(other.k) && q_rstd.SameBits(other.q_rstd) &&
           k_rstd.SameBits(other.k_rstd) && dqkv.SameBits(other.dqkv) && dq_weight.SameBits(other.dq_weight) &&
           dk_weight.SameBits(other.dk_weight);
  }
  QkRopeNormShape shape;
  TestTensor q, k, q_rstd, k_rstd, dqkv, dq_weight, dk_weight;
};

class QkRopeNormTest : public testing::TestWithParam<QkRopeNormShape> {};

TEST_P(QkRopeNormTest, AgreesWithReference) {
  const QkRopeNormShape s = GetParam();
  Inputs in(s);
  Outputs got(s), threaded(s);
  got.Run(in, 1);
  threaded.dqkv.Fill(std::numeric_limits<float>::quiet_NaN());
  threaded.Run(in, 3);
  EXPECT_TRUE(got.SameBits(threaded));

  const reference::QkShape shape = {s.t, s.q_heads, s.kv_heads, s.d, static_cast<double>(kQkRopeNormEpsilon)};
  std::vector<double> qkv = in.qkv.ToDouble(), q_weight = in.q_weight.ToDouble(), k_weight = in.k_weight.ToDouble();
  const std::vector<double> cos_sin = in.cos_sin.ToDouble(), dq = in.dq.ToDouble(), dk = in.dk.ToDouble();
  std::vector<double> q(got.q.size()), k(got.k.size()), q_rstd(got.q_rstd.size()), k_rstd(got.k_rstd.size());
  std::vector<double> dqkv(got.dqkv.size()), dq_weight(s.d), dk_weight(s.d);
  const auto loss = [&] {
    reference::QkRopeNorm(q.data(), k.data(), q_rstd.data(), k_rstd.data(), qkv.data(), cos_sin.data(), q_weight.data(),
                          k_weight.data(), shape);
    return Dot(q, dq) + Dot(k, dk);
  };
  loss();
  const double forward_error = std::max(
      {ScaledError(got.q, q), ScaledError(got.k, k), ScaledError(got.q_rstd, q_rstd), ScaledError(got.k_rstd, k_rstd)});
  EXPECT_LT(forward_error, 1e-6);

  // The value columns belong to another op: they keep their NaN, and are zero in the reference.
  for (int64_t token = 0; token < s.t; ++token) {
    float* row = got.dqkv.data() + token * s.row();
    for (int64_t i = (s.q_heads + s.kv_heads) * s.d; i < s.row(); ++i) {
      EXPECT_TRUE(std::isnan(row[i]));
      row[i] = 0;
    }
  }
  reference::QkRopeNormGrad(dqkv.data(), dq_weight.data(), dk_weight.data(), dq.data(), dk.data(), qkv.data(),
                            cos_sin.data(), q_weight.data(), k_weight.data(), shape);
  const double gradient_error =
      std::max({ScaledError(got.dqkv, dqkv), ScaledError(got.dq_weight, dq_weight),
                ScaledError(got.dk_weight, dk_weight), FiniteDifferenceError(got.dqkv.data(), qkv, loss, 100),
                FiniteDifferenceError(got.dq_weight.data(), q_weight, loss, 20),
                FiniteDifferenceError(got.dk_weight.data(), k_weight, loss, 20)});
  EXPECT_LT(gradient_error, 2e-6);
  AddToOpTable({"qk_rope_norm", absl::StrCat("T=", s.t, " Q=", s.q_heads, " G=", s.kv_heads, " D=", s.d), forward_error,
                gradient_error});

  got.Run(in, 2, /*accumulate=*/true);
  for (double& value : dq_weight) value *= 2;
  for (double& value : dk_weight) value *= 2;
  EXPECT_LT(std::max(ScaledError(got.dq_weight, dq_weight), ScaledError(got.dk_weight, dk_weight)), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, QkRopeNormTest,
                         testing::Values(QkRopeNormShape{1, 1, 1, 2}, QkRopeNormShape{3, 2, 1, 8},
                                         QkRopeNormShape{17, 4, 2, 16}, QkRopeNormShape{65, 4, 1, 64},
                                         QkRopeNormShape{130, 4, 4, 80}, QkRopeNormShape{33, 2, 1, 128},
                                         QkRopeNormShape{1100, 1, 1, 6}));

}  // namespace
}  // namespace angel_ptm
