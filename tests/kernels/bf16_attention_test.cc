#include <gtest/gtest.h>

#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "tests/reference/attention.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

struct Bf16AttentionShape {
  int64_t b, s, q_heads, kv_heads, d;
  int64_t document = 0;  // length of documents; 0: one per row
  int64_t t() const { return b * s; }
  int64_t v_row() const { return (kv_heads + 1) * d; }  // values lie inside a wider matrix
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(d)); }
};

// All operands of the op and its gradient.
struct Bf16AttentionRun {
  explicit Bf16AttentionRun(const Bf16AttentionShape& z, uint32_t seed = 25)
      : shape(z),
        segment_start(z.t()),
        random(seed),
        q(z.t() * z.q_heads * z.d, random),
        k(z.t() * z.kv_heads * z.d, random),
        v(z.t() * z.v_row(), random),
        do_(q.size(), random),
        o(q.size()),
        dq(q.size()),
        dk(k.size()),
        dv(v.size()),
        lse(z.t() * z.q_heads) {
    for (int64_t i = 0; i < z.t(); ++i) {
      segment_start[i] = z.document == 0 ? 0 : static_cast<int32_t>(i % z.s / z.document * z.document);
    }
  }
  void Run(int threads) {
    const Bf16AttentionShape& z = shape;
    RunKernel(CpuKernels().attention,
              {.o = o,
               .lse = lse,
               .q = q,
               .k = k,
               .v = v,
               .v_stride = z.v_row(),
               .segment_start = segment_start.data(),
               .b = z.b,
               .s = z.s,
               .q_heads = z.q_heads,
               .kv_heads = z.kv_heads,
               .d = z.d,
               .scale = z.scale()},
              threads);
    RunKernel(CpuKernels().attention_grad,
              {.dq = dq,
               .dk = dk,
               .dv = dv,
               .do_ = do_,
               .o = o,
               .lse = lse,
               .q = q,
               .k = k,
               .v = v,
               .v_stride = z.v_row(),
               .dv_stride = z.v_row(),
               .segment_start = segment_start.data(),
               .b = z.b,
               .s = z.s,
               .q_heads = z.q_heads,
               .kv_heads = z.kv_heads,
               .d = z.d,
               .scale = z.scale()},
              threads);
  }
  // The values' columns of x as [T,G,D].
  std::vector<double> Values(const Bf16Tensor& x) const {
    std::vector<double> values;
    for (int64_t token = 0; token < shape.t(); ++token) {
      for (int64_t i = 0; i < shape.kv_heads * shape.d; ++i) {
        values.push_back(static_cast<double>(x[token * shape.v_row() + i]));
      }
    }
    return values;
  }

  Bf16AttentionShape shape;
  std::vector<int32_t> segment_start;
  std::mt19937 random;
  Bf16Tensor q, k, v, do_, o, dq, dk, dv;
  TestTensor lse;
};

class Bf16AttentionTest : public testing::TestWithParam<Bf16AttentionShape> {};

// Results are rounded to 2^-8. So are probabilities and gradients of scores, whose roundings average over the keys.
TEST_P(Bf16AttentionTest, AgreesWithReference) {
  const Bf16AttentionShape z = GetParam();
  Bf16AttentionRun got(z);
  got.Run(1);
  const reference::AttentionShape shape = {z.b, z.s, z.q_heads, z.kv_heads, z.d, static_cast<double>(z.scale())};
  const std::vector<double> q = got.q.ToDouble(), k = got.k.ToDouble(), v = got.Values(got.v), do_ = got.do_.ToDouble();
  std::vector<double> o(q.size()), lse(z.t() * z.q_heads), dq(q.size()), dk(k.size()), dv(v.size());
  const int32_t* start = got.segment_start.data();
  reference::Attention(o.data(), lse.data(), q.data(), k.data(), v.data(), start, shape);
  reference::AttentionGrad(dq.data(), dk.data(), dv.data(), do_.data(), q.data(), k.data(), v.data(), start, shape);
  EXPECT_LT(ScaledError(got.o.ToDouble(), o), 0.006);
  EXPECT_LT(ScaledError(got.lse, lse), 2e-6);
  EXPECT_LT(ScaledError(got.Values(got.dv), dv), 0.008);
  if (z.s > 1) {  // one visible key has probability 1 whatever the score
    EXPECT_LT(ScaledError(got.dq.ToDouble(), dq), 0.015);
    EXPECT_LT(ScaledError(got.dk.ToDouble(), dk), 0.015);
  }
  // The columns beside the values belong to other ops.
  for (int64_t i = 0; i < got.dv.size(); ++i) {
    EXPECT_EQ(std::isnan(got.dv[i]), i % z.v_row() >= z.kv_heads * z.d) << i;
  }
}

TEST_P(Bf16AttentionTest, BitsDoNotDependOnThreads) {
  Bf16AttentionRun one(GetParam());
  one.Run(1);
  for (const int threads : {2, 3, 4}) {
    Bf16AttentionRun other(GetParam());
    other.Run(threads);
    EXPECT_TRUE(other.o.SameBits(one.o) && other.lse.SameBits(one.lse) && other.dq.SameBits(one.dq) &&
                other.dk.SameBits(one.dk) && other.dv.SameBits(one.dv))
        << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16AttentionTest,
                         testing::Values(Bf16AttentionShape{1, 1, 1, 1, 2}, Bf16AttentionShape{2, 17, 4, 2, 16},
                                         Bf16AttentionShape{1, 65, 4, 1, 64}, Bf16AttentionShape{1, 130, 2, 1, 128, 50},
                                         Bf16AttentionShape{1, 192, 2, 1, 22, 70}));

bool SameBf16Rows(const Bf16Tensor& a, const Bf16Tensor& b, int64_t row, int64_t begin, int64_t end) {
  return std::memcmp(a.data() + begin * row, b.data() + begin * row, (end - begin) * row * sizeof(BFloat16)) == 0;
}

// The contents of other documents and later tokens change no bit, whether numbers or NaN.
TEST(Bf16AttentionTest, HiddenTokensAreNotSeen) {
  const Bf16AttentionShape z = {1, 200, 2, 1, 22, 100};
  const int64_t q_row = z.q_heads * z.d, k_row = z.kv_heads * z.d, token = 77;
  Bf16AttentionRun want(z);
  want.Run(1);
  for (const float value : {5.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (Bf16Tensor Bf16AttentionRun::*operand :
         {&Bf16AttentionRun::q, &Bf16AttentionRun::k, &Bf16AttentionRun::v, &Bf16AttentionRun::do_}) {
      Bf16AttentionRun got(z);
      const int64_t row = (got.*operand).size() / z.s;
      for (int64_t i = 0; i < row; ++i) (got.*operand).Set(token * row + i, value);
      got.Run(2);
      EXPECT_TRUE(SameBf16Rows(got.o, want.o, q_row, 0, token)) << value;
      EXPECT_TRUE(SameBf16Rows(got.dq, want.dq, q_row, 0, token)) << value;
      EXPECT_TRUE(SameBf16Rows(got.o, want.o, q_row, z.document, z.s)) << value;
      EXPECT_TRUE(SameBf16Rows(got.dq, want.dq, q_row, z.document, z.s)) << value;
      EXPECT_TRUE(SameBf16Rows(got.dk, want.dk, k_row, z.document, z.s)) << value;
      EXPECT_TRUE(SameBf16Rows(got.dv, want.dv, z.v_row(), z.document, z.s)) << value;
      EXPECT_FALSE(got.o.SameBits(want.o) && got.dq.SameBits(want.dq) && got.dv.SameBits(want.dv)) << value;
    }
  }
}

// Decoding a row token by token gives the same as attention over the whole row, except for the rounding of weights.
TEST(Bf16AttentionTest, CachedAttentionAgreesWithReference) {
  const int64_t b = 2, s = 70, q_heads = 4, kv_heads = 2, d = 24, q_row = q_heads * d, k_row = kv_heads * d;
  const float scale = 0.3f;
  std::mt19937 random(26);
  const Bf16Tensor q(b * s * q_row, random), k(b * s * k_row, random), v(b * s * k_row, random);
  Bf16Tensor o(b * s * q_row), k_cache(b * s * k_row), v_cache(b * s * k_row);
  for (int32_t position = 0; position < s; ++position) {
    Bf16Tensor q_now(b * q_row), k_now(b * k_row), v_now(b * k_row), o_now(b * q_row);
    for (int64_t row = 0; row < b; ++row) {
      const int64_t token = row * s + position;
      std::copy_n(q.data() + token * q_row, q_row, q_now.data() + row * q_row);
      std::copy_n(k.data() + token * k_row, k_row, k_now.data() + row * k_row);
      std::copy_n(v.data() + token * k_row, k_row, v_now.data() + row * k_row);
    }
    RunKernel(CpuKernels().cached_attention,
              {.o = o_now,
               .k_cache = k_cache,
               .v_cache = v_cache,
               .q = q_now,
               .k = k_now,
               .v = v_now,
               .v_stride = k_row,
               .position = &position,
               .b = b,
               .s_max = s,
               .q_heads = q_heads,
               .kv_heads = kv_heads,
               .d = d,
               .scale = scale},
              1 + position % 2);
    for (int64_t row = 0; row < b; ++row) {
      std::copy_n(o_now.data() + row * q_row, q_row, o.data() + (row * s + position) * q_row);
    }
  }
  EXPECT_TRUE(k_cache.SameBits(k) && v_cache.SameBits(v));
  std::vector<double> want(b * s * q_row);
  reference::Attention(want.data(), nullptr, q.ToDouble().data(), k.ToDouble().data(), v.ToDouble().data(),
                       std::vector<int32_t>(b * s).data(), {b, s, q_heads, kv_heads, d, static_cast<double>(scale)});
  EXPECT_LT(ErrorBeyondRounding(o, want), 2e-6);
}

}  // namespace
}  // namespace angel_ptm
