#include "tests/reference/attention.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kernels/ops/attention.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct AttentionShape {
  int64_t b, s, q_heads, kv_heads, d;
  int64_t document = 0;  // longest document; 0: one per row
  int64_t t() const { return b * s; }
  int64_t v_row() const { return (q_heads + 2 * kv_heads) * d; }  // values lie inside qkv
  int64_t v_at() const { return (q_heads + kv_heads) * d; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(d)); }
  std::string Text() const {
    return absl::StrCat("B=", b, " S=", s, " Q=", q_heads, " G=", kv_heads, " D=", d,
                        document > 0 ? absl::StrCat(" documents<=", document) : "");
  }
};

// Documents of lengths 1 .. s.document in a pseudo-random order that differs from row to row.
std::vector<int32_t> SegmentStart(const AttentionShape& s) {
  std::vector<int32_t> start(s.t());
  std::mt19937 random(24);
  for (int64_t row = 0; row < s.b; ++row) {
    for (int64_t i = 0, begin = 0, end = 0; i < s.s; ++i) {
      if (s.document > 0 && i == end) {
        begin = i;
        end = i + 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(s.document));
      }
      start[row * s.s + i] = static_cast<int32_t>(begin);
    }
  }
  return start;
}

// All operands of the op and its gradient. `shift` moves every operand by that many floats.
struct AttentionRun {
  explicit AttentionRun(const AttentionShape& s, int64_t shift = 0)
      : shape(s),
        at(shift),
        segment_start(SegmentStart(s)),
        q(s.t() * s.q_heads * s.d + at),
        k(s.t() * s.kv_heads * s.d + at),
        qkv(s.t() * s.v_row() + at),
        do_(q.size()),
        o(q.size()),
        lse(s.t() * s.q_heads + at),
        dq(q.size()),
        dk(k.size()),
        dqkv(qkv.size()) {
    std::mt19937 random(25);
    std::normal_distribution<float> normal;
    for (TestTensor* x : {&q, &k, &qkv, &do_}) {
      for (int64_t i = at; i < x->size(); ++i) (*x)[i] = normal(random);
    }
  }
  AttentionArgs Forward() {
    return {.o = {o.data() + at},
            .lse = {lse.data() + at},
            .q = {q.data() + at},
            .k = {k.data() + at},
            .v = {qkv.data() + at + shape.v_at()},
            .v_stride = shape.v_row(),
            .segment_start = segment_start.data(),
            .b = shape.b,
            .s = shape.s,
            .q_heads = shape.q_heads,
            .kv_heads = shape.kv_heads,
            .d = shape.d,
            .scale = shape.scale()};
  }
  AttentionGradArgs Backward() {
    return {.dq = {dq.data() + at},
            .dk = {dk.data() + at},
            .dv = {dqkv.data() + at + shape.v_at()},
            .do_ = {do_.data() + at},
            .o = {o.data() + at},
            .lse = {lse.data() + at},
            .q = {q.data() + at},
            .k = {k.data() + at},
            .v = {qkv.data() + at + shape.v_at()},
            .v_stride = shape.v_row(),
            .dv_stride = shape.v_row(),
            .segment_start = segment_start.data(),
            .b = shape.b,
            .s = shape.s,
            .q_heads = shape.q_heads,
            .kv_heads = shape.kv_heads,
            .d = shape.d,
            .scale = shape.scale()};
  }
  void Run(int threads) {
    RunKernel(CpuKernels().attention, Forward(), threads);
    RunKernel(CpuKernels().attention_grad, Backward(), threads);
  }
  // The value columns of x[T,(Q+2G)*D] as [T,G,D].
  std::vector<float> Values(const TestTensor& x) const {
    std::vector<float> values;
    for (int64_t token = 0; token < shape.t(); ++token) {
      const float* row = x.data() + at + token * shape.v_row() + shape.v_at();
      values.insert(values.end(), row, row + shape.kv_heads * shape.d);
    }
    return values;
  }
  std::vector<float> Results() const {
    std::vector<float> all = Values(dqkv);
    for (const TestTensor* x : {&o, &lse, &dq, &dk}) all.insert(all.end(), x->data() + at, x->data() + x->size());
    return all;
  }

  AttentionShape shape;
  int64_t at;
  std::vector<int32_t> segment_start;
  TestTensor q, k, qkv, do_, o, lse, dq, dk, dqkv;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool AllFinite(const std::vector<float>& x) {
  return std::all_of(x.begin(), x.end(), [](float value) { return std::isfinite(value); });
}

class AttentionTest : public testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionTest, AgreesWithReference) {
  const AttentionShape s = GetParam();
  AttentionRun got(s);
  got.Run(1);

  const reference::AttentionShape shape = {s.b, s.s, s.q_heads, s.kv_heads, s.d, static_cast<double>(s.scale())};
  const std::vector<float> values = got.Values(got.qkv);
  std::vector<double> q = got.q.ToDouble(), k = got.k.ToDouble(), v(values.begin(), values.end());
  const std::vector<double> do_ = got.do_.ToDouble();
  std::vector<double> o(q.size()), lse(got.lse.size()), dq(q.size()), dk(k.size()), dv(v.size());
  const int32_t* start = got.segment_start.data();
  reference::Attention(o.data(), lse.data(), q.data(), k.data(), v.data(), start, shape);
  const double forward_error = std::max(ScaledError(got.o, o), ScaledError(got.lse, lse));
  EXPECT_LT(forward_error, 2e-6);

  reference::AttentionGrad(dq.data(), dk.data(), dv.data(), do_.data(), q.data(), k.data(), v.data(), start, shape);
  const std::vector<float> got_dv = got.Values(got.dqkv);
  const auto loss = [&] {
    reference::Attention(o.data(), nullptr, q.data(), k.data(), v.data(), start, shape);
    return Dot(o, do_);
  };
  double gradient_error = std::max(ScaledError(got_dv, dv), FiniteDifferenceError(got_dv.data(), v, loss, 12));
  if (s.s == 1 || s.document == 1) {  // one visible key has probability 1 whatever the score
    for (const TestTensor* x : {&got.dq, &got.dk}) {
      for (int64_t i = 0; i < x->size(); ++i) EXPECT_NEAR((*x)[i], 0, 1e-5f);
    }
  } else {
    gradient_error = std::max({gradient_error, ScaledError(got.dq, dq), ScaledError(got.dk, dk),
                               FiniteDifferenceError(got.dq.data(), q, loss, 12),
                               FiniteDifferenceError(got.dk.data(), k, loss, 12)});
  }
  EXPECT_LT(gradient_error, 5e-6);
  AddToOpTable({"attention", s.Text(), forward_error, gradient_error});

  // The query and key columns of dqkv belong to another op.
  for (int64_t i = 0; i < got.dqkv.size(); ++i) {
    EXPECT_EQ(std::isnan(got.dqkv[i]), i % s.v_row() < s.v_at()) << i;
  }
}

TEST_P(AttentionTest, BitsDependNeitherOnThreadsNorOnAddresses) {
  AttentionRun one(GetParam());
  one.Run(1);
  for (const int threads : {2, 5}) {
    AttentionRun other(GetParam(), /*shift=*/16 * threads);
    other.Run(threads);
    EXPECT_TRUE(SameBits(one.Results(), other.Results())) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         testing::Values(AttentionShape{1, 1, 1, 1, 2}, AttentionShape{2, 1, 2, 1, 64},
                                         AttentionShape{1, 3, 2, 2, 8}, AttentionShape{2, 17, 4, 2, 16},
                                         AttentionShape{1, 65, 4, 1, 64}, AttentionShape{1, 130, 2, 1, 128},
                                         AttentionShape{2, 130, 4, 2, 80, 50}, AttentionShape{1, 192, 2, 1, 22, 70},
                                         AttentionShape{1, 257, 2, 2, 64, 200}, AttentionShape{1, 130, 2, 1, 8, 1},
                                         AttentionShape{1, 300, 1, 1, 30, 9}, AttentionShape{1, 70, 1, 1, 256}));

struct TokenOperand {
  const char* name;
  TestTensor AttentionRun::*tensor;
};
constexpr TokenOperand kTokenOperands[] = {
    {"q", &AttentionRun::q}, {"k", &AttentionRun::k}, {"v", &AttentionRun::qkv}, {"do", &AttentionRun::do_}};

// For v, also fills the query and key columns beside it, which the ops do not read.
void FillToken(AttentionRun& x, const TokenOperand& operand, int64_t token, float value) {
  TestTensor& tensor = x.*operand.tensor;
  const int64_t row = (tensor.size() - x.at) / x.shape.t();
  std::fill_n(tensor.data() + x.at + token * row, row, value);
}

// Whether rows [begin, end), one token each, have the same bits.
bool SameRows(const AttentionRun& a, const AttentionRun& b, TestTensor AttentionRun::*tensor, int64_t begin,
              int64_t end) {
  const TestTensor &x = a.*tensor, &y = b.*tensor;
  const int64_t row = x.size() / a.shape.t();
  return std::memcmp(x.data() + begin * row, y.data() + begin * row, static_cast<size_t>((end - begin) * row) * 4) == 0;
}

constexpr float kHiddenValues[] = {5.0f, kNan, kInfinity, -kInfinity};

// The contents of other documents change no bit, whether numbers, NaN or infinity, for any operand and document.
TEST(AttentionTest, OtherDocumentsAreNotSeen) {
  const AttentionShape shape = {1, 200, 2, 1, 22};
  const int64_t begin = 70, end = 150;  // of the document in the middle
  AttentionRun a(shape);
  for (int64_t i = 0; i < shape.s; ++i)
    a.segment_start[i] = static_cast<int32_t>(i < begin ? 0 : i < end ? begin : end);
  a.Run(1);
  const auto expect_hidden = [&](const TokenOperand& operand, float value, int64_t from, int64_t to) {
    AttentionRun b(shape);
    b.segment_start = a.segment_start;
    for (int64_t token = from; token < to; ++token) FillToken(b, operand, token, value);
    b.Run(2);
    for (TestTensor AttentionRun::*result :
         {&AttentionRun::o, &AttentionRun::dq, &AttentionRun::dk, &AttentionRun::dqkv}) {
      EXPECT_TRUE(SameRows(a, b, result, begin, end)) << operand.name << " " << value << " from " << from;
    }
    for (int64_t head = 0; head < shape.q_heads; ++head) {
      const int64_t at = head * shape.t() + begin;
      EXPECT_EQ(std::memcmp(a.lse.data() + at, b.lse.data() + at, (end - begin) * sizeof(float)), 0) << operand.name;
    }
    EXPECT_FALSE(SameBits(a.Results(), b.Results()));
    EXPECT_EQ(AllFinite(b.Results()), std::isfinite(value)) << operand.name << " " << value << " from " << from;
  };
  for (const TokenOperand& operand : kTokenOperands) {
    for (const float value : kHiddenValues) {
      expect_hidden(operand, value, 0, begin);
      expect_hidden(operand, value, end, shape.s);
    }
  }
}

// A later token does not change an earlier query's results, and an earlier query's q or do does not change a later
// key's gradients.
TEST(AttentionTest, LaterTokensAreNotSeen) {
  const AttentionShape shape = {1, 200, 2, 1, 16};
  const int64_t token = 77;
  AttentionRun a(shape);
  a.Run(1);
  for (const TokenOperand& operand : kTokenOperands) {
    for (const float value : kHiddenValues) {
      AttentionRun b(shape);
      FillToken(b, operand, token, value);
      b.Run(1);
      EXPECT_TRUE(SameRows(a, b, &AttentionRun::o, 0, token)) << operand.name << " " << value;
      EXPECT_TRUE(SameRows(a, b, &AttentionRun::dq, 0, token)) << operand.name << " " << value;
      if (operand.tensor == &AttentionRun::q || operand.tensor == &AttentionRun::do_) {
        EXPECT_TRUE(SameRows(a, b, &AttentionRun::dk, token + 1, shape.s)) << operand.name << " " << value;
        EXPECT_TRUE(SameRows(a, b, &AttentionRun::dqkv, token + 1, shape.s)) << operand.name << " " << value;
      }
      EXPECT_FALSE(SameBits(a.Results(), b.Results()));
    }
  }
}

TEST(AttentionTest, LargeScoresStayFinite) {
  const AttentionShape shape = {1, 100, 1, 1, 16};
  AttentionRun got(shape);
  for (int64_t i = 0; i < got.q.size(); ++i) got.q[i] *= 1000.0f;
  got.Run(1);
  for (const float x : got.Results()) EXPECT_TRUE(std::isfinite(x));
}

TEST(AttentionTest, NonFiniteOperandsAreSeenInTheResult) {
  const AttentionShape shape = {1, 100, 1, 1, 16};
  AttentionRun got(shape);
  got.k[80 * 16] = std::numeric_limits<float>::quiet_NaN();
  got.Run(1);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(std::isnan(got.o[i * 16]), i >= 80) << i;
}

// The stated workspace (RunKernel checks that kernels stay inside it) grows at most linearly with the row.
TEST(AttentionTest, WorkspaceIsLinearInTheRow) {
  for (const int threads : {1, 2}) {
    AttentionRun x({1, 300, 4, 2, 24});
    AttentionArgs forward = x.Forward();
    AttentionGradArgs backward = x.Backward();
    const int64_t forward_bytes = WorkspaceBytes(forward, threads);
    const int64_t backward_bytes = WorkspaceBytes(backward, threads);
    forward.s = backward.s = 1 << 20;
    EXPECT_EQ(WorkspaceBytes(forward, threads), forward_bytes);
    EXPECT_LT(WorkspaceBytes(backward, threads), backward_bytes * ((1 << 20) / 300 + 1));
  }
}

}  // namespace
}  // namespace angel_ptm
