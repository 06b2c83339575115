// Attention of every query to all keys of its row, or to the first ones if they are counted: self- and cross-attention
// without a mask, in fp32 and bf16.
#include <gtest/gtest.h>

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "kernels/ops/attention.h"
#include "tests/reference/attention.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct FullAttentionShape {
  int64_t b, s, keys, q_heads, kv_heads, d;
  bool counted;  // rows differ in how many keys there are
};

// Keys and values are columns of a matrix of their own, with other columns before, between and after them.
template <typename Tensor>
struct FullAttentionRun {
  explicit FullAttentionRun(const FullAttentionShape& shape)
      : z(shape),
        random(31),
        v_row(z.kv_heads * z.d + 9),
        q(z.b * z.s * z.q_heads * z.d, random),
        k(z.b * z.keys * z.kv_heads * z.d, random),
        v(z.b * z.keys * v_row, random),
        do_(q.size(), random),
        o(q.size()),
        dq(q.size()),
        dk(k.size()),
        dv(v.size()),
        lse(z.b * z.s * z.q_heads) {
    for (int64_t row = 0; row < z.b; ++row) counts.push_back(static_cast<int32_t>((row * 37 + 3) % z.keys + 1));
  }
  template <typename T>
  static T Values(T x) {
    return {reinterpret_cast<decltype(x.data)>(reinterpret_cast<uintptr_t>(x.data) + 4 * SizeOf(x.dtype)), x.dtype};
  }
  void Run(int threads) {
    const int32_t* const seen = z.counted ? counts.data() : nullptr;
    AttentionArgs args{.o = o, .lse = lse, .q = q, .k = k, .v = Values(ConstOperand(v)), .v_stride = v_row};
    AttentionGradArgs grad{
        .dq = dq, .dk = dk, .dv = Values(Operand(dv)), .do_ = do_, .o = o, .lse = lse, .q = q, .k = k};
    grad.v = args.v;
    grad.v_stride = grad.dv_stride = v_row;
    args.key_counts = grad.key_counts = seen;
    args.keys = grad.keys = z.keys;
    args.b = grad.b = z.b, args.s = grad.s = z.s, args.d = grad.d = z.d;
    args.q_heads = grad.q_heads = z.q_heads, args.kv_heads = grad.kv_heads = z.kv_heads;
    args.scale = grad.scale = 1.0f / std::sqrt(static_cast<float>(z.d));
    EXPECT_TRUE(CpuKernels().attention.can_run(args).ok() && CpuKernels().attention_grad.can_run(grad).ok());
    RunKernel(CpuKernels().attention, args, threads);
    RunKernel(CpuKernels().attention_grad, grad, threads);
  }
  // The value columns of x as [B*keys,G,D].
  std::vector<double> ValueColumns(const Tensor& x) const {
    const std::vector<double> all = x.ToDouble();
    std::vector<double> values;
    for (int64_t i = 0; i < k.size(); ++i) {
      values.push_back(all[i / (z.kv_heads * z.d) * v_row + 4 + i % (z.kv_heads * z.d)]);
    }
    return values;
  }
  void Set(Tensor& x, int64_t i, float value) {
    if constexpr (std::is_same_v<Tensor, TestTensor>) x[i] = value;
    if constexpr (!std::is_same_v<Tensor, TestTensor>) x.Set(i, value);
  }

  FullAttentionShape z;
  std::mt19937 random;
  int64_t v_row;
  Tensor q, k, v, do_, o, dq, dk, dv;
  TestTensor lse;
  std::vector<int32_t> counts;
};

class FullAttentionTest : public testing::TestWithParam<FullAttentionShape> {};

template <typename Tensor>
void CheckFullAttention(const FullAttentionShape& z) {
  constexpr bool kIsBf16 = std::is_same_v<Tensor, Bf16Tensor>;
  FullAttentionRun<Tensor> got(z), threaded(z);
  got.Run(1);
  threaded.Run(3);
  EXPECT_TRUE(got.o.SameBits(threaded.o) && got.dq.SameBits(threaded.dq) && got.dk.SameBits(threaded.dk));
  EXPECT_EQ(got.ValueColumns(got.dv), threaded.ValueColumns(threaded.dv));
  const reference::AttentionShape shape{.b = z.b,
                                        .s = z.s,
                                        .q_heads = z.q_heads,
                                        .kv_heads = z.kv_heads,
                                        .d = z.d,
                                        .scale = 1 / std::sqrt(static_cast<double>(z.d)),
                                        .keys = z.keys,
                                        .key_counts = z.counted ? got.counts.data() : nullptr};
  const std::vector<double> q = got.q.ToDouble(), k = got.k.ToDouble(), v = got.ValueColumns(got.v);
  const std::vector<double> do_ = got.do_.ToDouble();
  std::vector<double> o(q.size()), lse(got.lse.size()), dq(q.size()), dk(k.size()), dv(v.size());
  reference::Attention(o.data(), lse.data(), q.data(), k.data(), v.data(), nullptr, shape);
  reference::AttentionGrad(dq.data(), dk.data(), dv.data(), do_.data(), q.data(), k.data(), v.data(), nullptr, shape);
  const double forward_error = std::max(ScaledError(got.o.ToDouble(), o), ScaledError(got.lse, lse));
  const double gradient_error = std::max({ScaledError(got.dq.ToDouble(), dq), ScaledError(got.dk.ToDouble(), dk),
                                          ScaledError(got.ValueColumns(got.dv), dv)});
  EXPECT_LT(forward_error, kIsBf16 ? 1e-2 : 2e-6);
  EXPECT_LT(gradient_error, kIsBf16 ? 2e-2 : 3e-6);
  AddToOpTable({kIsBf16 ? "attention bf16" : "attention",
                absl::StrCat("full B=", z.b, " S=", z.s, " K=", z.keys, " Q=", z.q_heads, " G=", z.kv_heads, " D=", z.d,
                             z.counted ? " counted" : ""),
                forward_error, gradient_error});
}

TEST_P(FullAttentionTest, AgreesWithReference) {
  CheckFullAttention<TestTensor>(GetParam());
  CheckFullAttention<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, FullAttentionTest,
    testing::Values(FullAttentionShape{1, 1, 1, 1, 1, 2, false}, FullAttentionShape{2, 64, 64, 2, 2, 16, false},
                    FullAttentionShape{3, 70, 33, 4, 2, 22, true}, FullAttentionShape{4, 5, 130, 2, 1, 88, true},
                    FullAttentionShape{2, 130, 7, 2, 2, 64, true}, FullAttentionShape{1, 1, 257, 8, 8, 24, false},
                    FullAttentionShape{1, 70, 70, 1, 1, 512, false}));

// Keys and values after a row's count, NaN included, change nothing, and their gradients are zero.
template <typename Tensor>
void CheckUnseenKeys() {
  const FullAttentionShape z{3, 20, 90, 2, 1, 16, true};
  FullAttentionRun<Tensor> a(z), b(z);
  a.Run(1);
  for (int64_t row = 0; row < z.b; ++row) {
    for (int64_t key = b.counts[row]; key < z.keys; ++key) {
      for (int64_t i = 0; i < z.d; ++i) b.Set(b.k, (row * z.keys + key) * z.d + i, std::nanf(""));
      for (int64_t i = 0; i < b.v_row; ++i) b.Set(b.v, (row * z.keys + key) * b.v_row + i, std::nanf(""));
    }
  }
  b.Run(2);
  EXPECT_TRUE(a.o.SameBits(b.o) && a.lse.SameBits(b.lse) && a.dq.SameBits(b.dq) && a.dk.SameBits(b.dk));
  EXPECT_EQ(a.ValueColumns(a.dv), b.ValueColumns(b.dv));
  const std::vector<double> dk = b.dk.ToDouble(), dv = b.ValueColumns(b.dv);
  for (int64_t i = 0; i < b.k.size(); ++i) {
    if (i / z.d % z.keys < b.counts[i / (z.d * z.keys)]) continue;
    ASSERT_TRUE(dk[i] == 0 && dv[i] == 0) << i;
  }
}

TEST(FullAttentionTest, KeysBehindTheCountAreNotSeen) {
  CheckUnseenKeys<TestTensor>();
  CheckUnseenKeys<Bf16Tensor>();
}

}  // namespace
}  // namespace angel_ptm
