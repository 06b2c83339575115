// Attention on the tensor cores of sm_80 and of sm_90a, and in fp32 by FMA.
#include <cmath>
#include <limits>

#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/attention.h"

namespace angel_ptm::emulated {
namespace {

struct Shape {
  std::int64_t b, s, q_heads, kv_heads, d;
  std::int64_t document = 0;  // longest document; 0: one per row
  std::int64_t beside = 8;    // columns behind the values
  std::int64_t keys = 0;      // of each row of full attention; 0: causal
  bool counted = false;       // rows differ in how many of them are seen
  std::int64_t v_row() const { return kv_heads * d + beside; }
  std::int64_t key_tokens() const { return b * (keys > 0 ? keys : s); }
};

// Documents of lengths 1 .. s.document, drawn anew for every row.
std::vector<std::int32_t> SegmentStart(const Shape& s, std::mt19937& random) {
  std::vector<std::int32_t> start;
  for (std::int64_t row = 0; row < s.b; ++row) {
    for (std::int64_t i = 0, begin = 0, end = 0; i < s.s; ++i) {
      if (s.document > 0 && i == end) {
        begin = i;
        end = i + 1 + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(s.document));
      }
      start.push_back(static_cast<std::int32_t>(begin));
    }
  }
  return start;
}

struct Launchers {
  void (*attention)(const AttentionArgs&, const cuda::LaunchContext&);
  void (*grad)(const AttentionGradArgs&, const cuda::LaunchContext&);
};
constexpr Launchers kPortable = {&cuda::LaunchAttention, &cuda::LaunchAttentionGrad};
constexpr Launchers kSm90a = {&cuda::LaunchAttentionSm90a, &cuda::LaunchAttentionGradSm90a};

template <typename T>
struct Attention {
  explicit Attention(const Shape& z, const Launchers& with = kPortable, std::uint32_t seed = 15)
      : shape(z),
        launch(with),
        random(seed),
        segment_start(SegmentStart(z, random)),
        q(RandomElements<T>(z.b * z.s * z.q_heads * z.d, random)),
        k(RandomElements<T>(z.key_tokens() * z.kv_heads * z.d, random)),
        v(RandomElements<T>(z.key_tokens() * z.v_row(), random)),
        do_(RandomElements<T>(z.b * z.s * z.q_heads * z.d, random)),
        o(q.size()),
        lse(static_cast<std::size_t>(z.b * z.s * z.q_heads)) {
    for (std::int32_t row = 0; row < z.b && z.counted; ++row) {
      key_counts.push_back((row * 37 + 3) % static_cast<std::int32_t>(z.keys) + 1);
    }
  }
  // The operands that both ops share, on the device.
  template <typename Args>
  void SetShape(Args& args, DeviceArray<std::int32_t>& start, DeviceArray<std::int32_t>& counts) const {
    if (shape.keys == 0) args.segment_start = start.data();
    if (shape.counted) args.key_counts = counts.data();
    args.keys = shape.keys, args.b = shape.b, args.s = shape.s, args.q_heads = shape.q_heads;
    args.kv_heads = shape.kv_heads, args.d = shape.d, args.scale = 1.0f / std::sqrt(static_cast<float>(shape.d));
  }
  reference::AttentionShape Reference() const {
    return {shape.b,       shape.s,
            shape.q_heads, shape.kv_heads,
            shape.d,       1.0 / std::sqrt(static_cast<double>(shape.d)),
            shape.keys,    shape.counted ? key_counts.data() : nullptr};
  }

  void Run(int seeds) {
    DeviceArray<std::int32_t> device_start(segment_start), device_counts(key_counts);
    DeviceArray<T> device_q(q), device_k(k), device_v(v), device_o(static_cast<std::int64_t>(o.size()));
    DeviceArray<float> device_lse(static_cast<std::int64_t>(lse.size()));
    AttentionArgs args = {.o = Out(device_o), .lse = Out(device_lse)};
    args.q = In(device_q), args.k = In(device_k), args.v = In(device_v), args.v_stride = shape.v_row();
    SetShape(args, device_start, device_counts);
    o = RunClean([&] { launch.attention(args, {}); }, device_o, [] {}, seeds);
    lse = device_lse.Get();
  }
  // Call it after Run.
  void RunGrad(int seeds) {
    DeviceArray<std::int32_t> device_start(segment_start), device_counts(key_counts);
    DeviceArray<T> device_q(q), device_k(k), device_v(v), device_o(o), device_do(do_);
    DeviceArray<T> device_dq(static_cast<std::int64_t>(q.size())), device_dk(static_cast<std::int64_t>(k.size()));
    DeviceArray<T> device_dv(v);
    DeviceArray<float> device_lse(lse);
    AttentionGradArgs args = {.dq = Out(device_dq), .dk = Out(device_dk), .dv = Out(device_dv), .do_ = In(device_do)};
    args.o = In(device_o), args.lse = In(device_lse), args.q = In(device_q), args.k = In(device_k);
    args.v = In(device_v), args.v_stride = args.dv_stride = shape.v_row();
    SetShape(args, device_start, device_counts);
    DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / 4);
    const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
    RunClean([&] { launch.grad(args, context); }, device_dq, [] {}, seeds);
    for (DeviceArray<T>* result : {&device_dk, &device_dv}) {
      if (seeds > 0) RunClean([&] { launch.grad(args, context); }, *result, [] {}, seeds);
    }
    dq = device_dq.Get(), dk = device_dk.Get(), dv = device_dv.Get();
  }
  // The columns of values; also checks whether the columns beside them are still those of v.
  std::vector<T> Values(const std::vector<T>& of) const {
    std::vector<T> values;
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (static_cast<std::int64_t>(i) % shape.v_row() < shape.kv_heads * shape.d) {
        values.push_back(of[i]);
      } else {
        EXPECT_EQ(ToFloat(of[i]), ToFloat(v[i])) << i;
      }
    }
    return values;
  }

  Shape shape;
  Launchers launch;
  std::mt19937 random;
  std::vector<std::int32_t> segment_start, key_counts;
  std::vector<T> q, k, v, do_, o, dq, dk, dv;
  std::vector<float> lse;
};

// o is tested as for the host backend: its rounding to bf16, and that of the weights, which averages over keys.
template <typename T>
void TestAttention(const Shape& z, int seeds = 1, const Launchers& with = kPortable) {
  SCOPED_TRACE(testing::Message() << z.b << " x " << z.s << " heads " << z.q_heads << "/" << z.kv_heads << " d "
                                  << z.d);
  Attention<T> got(z, with);
  got.Run(seeds);
  std::vector<double> o(got.o.size()), lse(got.lse.size());
  reference::Attention(o.data(), lse.data(), ToDoubles(got.q).data(), ToDoubles(got.k).data(),
                       ToDoubles(got.Values(got.v)).data(), got.segment_start.data(), got.Reference());
  EXPECT_LT(ScaledError(ToDoubles(got.o).data(), o.data(), static_cast<std::int64_t>(o.size())),
            IsFp32<T>() ? 2e-6 : 0.006);
  EXPECT_LT(ErrorOf(got.lse, lse), 2e-6);
}

template <typename T>
double Error(const std::vector<T>& got, const std::vector<double>& want) {
  return ScaledError(ToDoubles(got).data(), want.data(), static_cast<std::int64_t>(want.size()));
}

// Limits as for the host backend: bf16 results are rounded to bf16, as are probabilities and gradients of scores.
template <typename T>
void TestAttentionGrad(const Shape& z, int seeds = 0, const Launchers& with = kPortable) {
  SCOPED_TRACE(testing::Message() << z.b << " x " << z.s << " heads " << z.q_heads << "/" << z.kv_heads << " d "
                                  << z.d);
  Attention<T> got(z, with);
  got.Run(0);
  got.RunGrad(seeds);
  std::vector<double> dq(got.dq.size()), dk(got.dk.size()), dv(dk.size());
  reference::AttentionGrad(dq.data(), dk.data(), dv.data(), ToDoubles(got.do_).data(), ToDoubles(got.q).data(),
                           ToDoubles(got.k).data(), ToDoubles(got.Values(got.v)).data(), got.segment_start.data(),
                           got.Reference());
  EXPECT_LT(Error(got.Values(got.dv), dv), IsFp32<T>() ? 2e-6 : 0.008);
  if (z.s == 1 && z.keys == 0) return;  // one visible key has probability 1 whatever the score
  EXPECT_LT(Error(got.dq, dq), IsFp32<T>() ? 4e-6 : 0.015);
  EXPECT_LT(Error(got.dk, dk), IsFp32<T>() ? 4e-6 : 0.015);
}

TEST(CudaAttentionTest, AgreesWithTheReference) {
  TestAttention<BFloat16>({1, 1, 1, 1, 16}, 2);
  TestAttention<BFloat16>({2, 77, 4, 2, 16}, 3);
  TestAttention<BFloat16>({1, 201, 2, 1, 64});
  TestAttention<BFloat16>({2, 150, 2, 2, 88, 60, /*beside=*/3});
  TestAttention<BFloat16>({1, 131, 3, 1, 128, 90});
  TestAttention<BFloat16>({2, 1, 2, 2, 16, 0, 8, /*keys=*/77, /*counted=*/true}, 2);
  TestAttention<BFloat16>({2, 140, 2, 1, 88, 0, 3, /*keys=*/70, /*counted=*/true});
  TestAttention<BFloat16>({1, 19, 1, 1, 64, 0, 8, /*keys=*/150});
  TestAttention<BFloat16>({2, 1, 2, 1, 256, 0, 3, /*keys=*/41, /*counted=*/true}, 2);
  TestAttention<BFloat16>({1, 3, 2, 2, 136, 0, 8, /*keys=*/300});
}

// Six tiles of keys and six of values go three times round the ring of four stages.
TEST(CudaAttentionSm90aTest, AgreesWithTheReference) {
  TestAttention<BFloat16>({1, 1, 1, 1, 16, 0, 16}, 2, kSm90a);
  TestAttention<BFloat16>({2, 77, 4, 2, 16, 0, 16}, 1, kSm90a);
  TestAttention<BFloat16>({1, 650, 1, 1, 64, 0, 0}, 0, kSm90a);
  TestAttention<BFloat16>({2, 150, 2, 2, 88, 60, 88}, 0, kSm90a);
  TestAttention<BFloat16>({1, 300, 3, 1, 128, 260, 0}, 0, kSm90a);
  TestAttention<BFloat16>({2, 1, 2, 2, 16, 0, 0, /*keys=*/77, /*counted=*/true}, 1, kSm90a);
  TestAttention<BFloat16>({2, 140, 2, 1, 88, 0, 0, /*keys=*/170, /*counted=*/true}, 0, kSm90a);
  TestAttention<BFloat16>({1, 19, 1, 1, 128, 0, 128, /*keys=*/767}, 2, kSm90a);  // one key less than six tiles
}

TEST(CudaAttentionTest, Fp32AgreesWithTheReference) {
  TestAttention<float>({1, 1, 1, 1, 16}, 2);
  TestAttention<float>({2, 77, 4, 2, 24}, 3);
  TestAttention<float>({2, 150, 2, 2, 88, 60, /*beside=*/3});
  TestAttention<float>({1, 131, 3, 1, 128, 90, /*beside=*/4});
  TestAttention<float>({2, 1, 2, 2, 16, 0, 8, /*keys=*/77, /*counted=*/true}, 2);
  TestAttention<float>({2, 70, 2, 1, 88, 0, 3, /*keys=*/40, /*counted=*/true});
  TestAttention<float>({1, 19, 1, 1, 64, 0, 8, /*keys=*/150});
  TestAttention<float>({2, 1, 2, 1, 256, 0, 3, /*keys=*/41, /*counted=*/true}, 2);
}

TEST(CudaAttentionGradTest, AgreesWithTheReference) {
  TestAttentionGrad<BFloat16>({1, 1, 1, 1, 8});
  TestAttentionGrad<BFloat16>({2, 77, 4, 2, 16}, 1);
  TestAttentionGrad<BFloat16>({1, 201, 3, 1, 64, 0, /*beside=*/8});
  TestAttentionGrad<BFloat16>({2, 150, 2, 2, 88, 60, /*beside=*/3});
  TestAttentionGrad<BFloat16>({1, 270, 2, 1, 128, 140});
  TestAttentionGrad<BFloat16>({2, 1, 2, 2, 16, 0, 8, /*keys=*/200, /*counted=*/true},
                              1);  // nobody sees the keys from 128 on
  TestAttentionGrad<BFloat16>({2, 140, 2, 1, 88, 0, 3, /*keys=*/70, /*counted=*/true});
  TestAttentionGrad<BFloat16>({1, 19, 1, 1, 64, 0, 8, /*keys=*/150});
  TestAttentionGrad<BFloat16>({2, 1, 2, 1, 256, 0, 3, /*keys=*/41, /*counted=*/true}, 1);
  TestAttentionGrad<BFloat16>({1, 3, 2, 2, 136, 0, 8, /*keys=*/60});
}

// Eleven tiles of keys, and up to ten of queries, go round the ring of four stages.
TEST(CudaAttentionGradSm90aTest, AgreesWithTheReference) {
  TestAttentionGrad<BFloat16>({1, 1, 1, 1, 8, 0, 8}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({2, 77, 2, 1, 16, 0, 16}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({1, 150, 2, 2, 88, 60, 88}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({1, 260, 4, 2, 64, 200, 0}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({1, 270, 2, 1, 128, 140, 0}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({2, 1, 2, 2, 16, 0, 0, /*keys=*/200, /*counted=*/true}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({1, 140, 2, 1, 88, 0, 0, /*keys=*/70}, 0, kSm90a);
  TestAttentionGrad<BFloat16>({1, 19, 1, 1, 128, 0, 128, /*keys=*/700}, 1, kSm90a);
}

TEST(CudaAttentionGradTest, Fp32AgreesWithTheReference) {
  TestAttentionGrad<float>({1, 1, 1, 1, 8});
  TestAttentionGrad<float>({2, 77, 4, 2, 24}, 1);
  TestAttentionGrad<float>({2, 150, 2, 2, 88, 60, /*beside=*/3});
  TestAttentionGrad<float>({1, 131, 2, 1, 128, 90, /*beside=*/4});
  TestAttentionGrad<float>({2, 1, 2, 2, 16, 0, 8, /*keys=*/140, /*counted=*/true}, 1);  // nobody sees the last keys
  TestAttentionGrad<float>({2, 70, 2, 1, 88, 0, 3, /*keys=*/40, /*counted=*/true});
  TestAttentionGrad<float>({1, 3, 2, 2, 136, 0, 8, /*keys=*/60});
}

template <typename T>
bool SameRows(const std::vector<T>& a, const std::vector<T>& b, std::int64_t tokens, std::int64_t begin,
              std::int64_t end) {
  const std::int64_t row = static_cast<std::int64_t>(a.size()) / tokens;
  return SameBits(std::vector<T>(a.begin() + begin * row, a.begin() + end * row),
                  std::vector<T>(b.begin() + begin * row, b.begin() + end * row));
}
template <typename T>
bool SameRows(const Attention<T>& a, const Attention<T>& b, std::int64_t begin, std::int64_t end) {
  return SameRows(a.o, b.o, a.shape.s, begin, end);
}

// The contents of other documents and later tokens change no bit, whether numbers or NaN; every query that sees a NaN
// shows it.
template <typename T>
void TestHiddenTokens(const Launchers& with = kPortable) {
  const Shape z = {1, 100, 1, 1, 16, 0, /*beside=*/16};
  const std::int64_t token = 37, end = 70;
  const auto with_two_documents = [&] {
    Attention<T> attention(z, with);
    for (std::int64_t i = end; i < z.s; ++i) attention.segment_start[static_cast<std::size_t>(i)] = end;
    return attention;
  };
  Attention<T> want = with_two_documents();
  want.Run(0);
  for (const float value : {5.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::vector<T> Attention<T>::*operand : {&Attention<T>::k, &Attention<T>::v}) {
      Attention<T> got = with_two_documents();
      const std::int64_t row = static_cast<std::int64_t>((got.*operand).size()) / z.s;
      for (std::int64_t i = 0; i < z.d; ++i) {
        (got.*operand)[static_cast<std::size_t>(token * row + i)] = Element<T>(value);
      }
      got.Run(0);
      EXPECT_TRUE(SameRows(got, want, 0, token)) << value;
      EXPECT_TRUE(SameRows(got, want, end, z.s)) << value;
      for (std::int64_t i = token; i < end; ++i) EXPECT_FALSE(SameRows(got, want, i, i + 1)) << value << " " << i;
      if (operand == &Attention<T>::k || value == 5.0f) continue;
      for (std::int64_t i = token * z.d; i < end * z.d; ++i) {
        EXPECT_FALSE(std::isfinite(ToFloat(got.o[static_cast<std::size_t>(i)]))) << value << " " << i;
      }
    }
  }
}
TEST(CudaAttentionTest, HiddenTokensAreNotSeen) {
  TestHiddenTokens<BFloat16>();
  TestHiddenTokens<float>();
}
TEST(CudaAttentionSm90aTest, HiddenTokensAreNotSeen) { TestHiddenTokens<BFloat16>(kSm90a); }

// The same for gradients, with one operand of the first of two documents: a query's gradient depends on earlier tokens,
// a key's on later ones.
template <typename T>
void TestHiddenTokensOfGrad(const Launchers& with = kPortable) {
  const Shape z = {1, 100, 2, 1, 16, 0, /*beside=*/0};
  const std::int64_t token = 37, end = 70;
  const auto with_two_documents = [&] {
    Attention<T> attention(z, with);
    for (std::int64_t i = end; i < z.s; ++i) attention.segment_start[static_cast<std::size_t>(i)] = end;
    return attention;
  };
  Attention<T> want = with_two_documents();
  want.Run(0);
  want.RunGrad(0);
  for (const float value : {5.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::vector<T> Attention<T>::*operand :
         {&Attention<T>::q, &Attention<T>::k, &Attention<T>::v, &Attention<T>::do_}) {
      Attention<T> got = with_two_documents();
      const std::int64_t row = static_cast<std::int64_t>((got.*operand).size()) / z.s;
      for (std::int64_t i = 0; i < z.d; ++i) {
        (got.*operand)[static_cast<std::size_t>(token * row + i)] = Element<T>(value);
      }
      got.Run(0);
      got.RunGrad(0);
      const bool is_query = operand == &Attention<T>::q || operand == &Attention<T>::do_;
      EXPECT_TRUE(SameRows(got.dq, want.dq, z.s, 0, token)) << value;
      for (std::vector<T> Attention<T>::*grad : {&Attention<T>::dq, &Attention<T>::dk, &Attention<T>::dv}) {
        EXPECT_TRUE(SameRows(got.*grad, want.*grad, z.s, end, z.s)) << value;
        if (is_query && grad != &Attention<T>::dq) {
          EXPECT_TRUE(SameRows(got.*grad, want.*grad, z.s, token + 1, end));
        }
      }
      EXPECT_FALSE(SameRows(got.dk, want.dk, z.s, token, token + 1)) << value;
      if (value == 5.0f) continue;
      const std::vector<T>& seen = is_query ? got.dv : got.dq;
      const std::int64_t seen_row = static_cast<std::int64_t>(seen.size()) / z.s;
      for (std::int64_t i = is_query ? 0 : token; i <= (is_query ? token : end - 1); ++i) {
        EXPECT_FALSE(std::isfinite(ToFloat(seen[static_cast<std::size_t>(i * seen_row)]))) << value << " " << i;
      }
    }
  }
}
TEST(CudaAttentionGradTest, HiddenTokensAreNotSeen) {
  TestHiddenTokensOfGrad<BFloat16>();
  TestHiddenTokensOfGrad<float>();
}
TEST(CudaAttentionGradSm90aTest, HiddenTokensAreNotSeen) { TestHiddenTokensOfGrad<BFloat16>(kSm90a); }

// Full attention: keys after a row's count change no bit, and their gradients are zero.
template <typename T>
void TestKeysBehindTheCount(const Launchers& with = kPortable) {
  const Shape z = {1, 20, 2, 1, 16, 0, /*beside=*/0, /*keys=*/100, /*counted=*/true};
  Attention<T> want(z, with);
  const std::int64_t count = want.key_counts[0], row = z.kv_heads * z.d;
  want.Run(0);
  want.RunGrad(0);
  Attention<T> got(z, with);
  for (std::vector<T> Attention<T>::*operand : {&Attention<T>::k, &Attention<T>::v}) {
    for (std::int64_t i = count * row; i < z.keys * row; ++i) {
      (got.*operand)[static_cast<std::size_t>(i)] = Element<T>(std::numeric_limits<float>::quiet_NaN());
    }
  }
  got.Run(0);
  got.RunGrad(0);
  EXPECT_TRUE(SameBits(got.o, want.o) && SameBits(got.dq, want.dq));
  EXPECT_TRUE(SameBits(got.dk, want.dk) && SameBits(got.dv, want.dv));
  for (std::int64_t i = count * row; i < z.keys * row; ++i) {
    EXPECT_EQ(ToFloat(got.dk[static_cast<std::size_t>(i)]), 0) << i;
    EXPECT_EQ(ToFloat(got.dv[static_cast<std::size_t>(i)]), 0) << i;
  }
}
TEST(CudaAttentionGradTest, KeysBehindTheCountAreNotSeen) {
  TestKeysBehindTheCount<BFloat16>();
  TestKeysBehindTheCount<float>();
}
TEST(CudaAttentionGradSm90aTest, KeysBehindTheCountAreNotSeen) { TestKeysBehindTheCount<BFloat16>(kSm90a); }

// Decoding at some positions gives the same as attention over the whole row, and leaves the caches' other rows
// unchanged.
template <typename T>
void TestCachedAttention(const Shape& z, double error) {
  SCOPED_TRACE(testing::Message() << z.s << " keys, heads " << z.q_heads << "/" << z.kv_heads << " d " << z.d);
  const std::int64_t q_row = z.q_heads * z.d, k_row = z.kv_heads * z.d, s_max = z.s + 2;
  std::mt19937 random(22);
  const auto q = RandomElements<T>(z.b * z.s * q_row, random);
  const auto k = RandomElements<T>(z.b * z.s * k_row, random), v = RandomElements<T>(z.b * z.s * k_row, random);
  std::vector<double> want(q.size());
  reference::Attention(want.data(), nullptr, ToDoubles(q).data(), ToDoubles(k).data(), ToDoubles(v).data(),
                       std::vector<std::int32_t>(static_cast<std::size_t>(z.b * z.s)).data(),
                       {z.b, z.s, z.q_heads, z.kv_heads, z.d, 0.25});
  // rows[b] of `of` at a position, with the columns beside it.
  const auto at = [&](const std::vector<T>& of, std::int64_t position, std::int64_t width, std::int64_t beside) {
    std::vector<T> rows;
    for (std::int64_t b = 0; b < z.b; ++b) {
      const auto from = of.begin() + (b * z.s + position) * width;
      rows.insert(rows.end(), from, from + width);
      rows.resize(rows.size() + static_cast<std::size_t>(beside), Element<T>(9.0f));
    }
    return rows;
  };
  for (const std::int64_t position : {std::int64_t{0}, z.s / 2, z.s - 1}) {
    std::vector<T> k_cache(static_cast<std::size_t>(z.b * s_max * k_row), Element<T>(3.0f)), v_cache = k_cache;
    for (std::int64_t b = 0; b < z.b; ++b) {
      std::copy_n(k.begin() + b * z.s * k_row, position * k_row, k_cache.begin() + b * s_max * k_row);
      std::copy_n(v.begin() + b * z.s * k_row, position * k_row, v_cache.begin() + b * s_max * k_row);
    }
    DeviceArray<T> device_q(at(q, position, q_row, 0)), device_k(at(k, position, k_row, 0));
    DeviceArray<T> device_v(at(v, position, k_row, 5)), o(z.b * q_row), device_k_cache(k_cache),
        device_v_cache(v_cache);
    DeviceArray<std::int32_t> device_position(std::vector<std::int32_t>{static_cast<std::int32_t>(position)});
    CachedAttentionArgs args = {.o = Out(o), .k_cache = Out(device_k_cache), .v_cache = Out(device_v_cache)};
    args.q = In(device_q), args.k = In(device_k), args.v = In(device_v), args.v_stride = k_row + 5;
    args.position = device_position.data(), args.b = z.b, args.s_max = s_max, args.q_heads = z.q_heads;
    args.kv_heads = z.kv_heads, args.d = z.d, args.scale = 0.25f;
    const std::vector<T> got = RunClean([&] { cuda::LaunchCachedAttention(args, {}); }, o, [] {}, 1);
    std::vector<double> rows;
    for (std::int64_t b = 0; b < z.b; ++b) {
      const auto from = want.begin() + (b * z.s + position) * q_row;
      rows.insert(rows.end(), from, from + q_row);
      std::copy_n(k.begin() + (b * z.s + position) * k_row, k_row, k_cache.begin() + (b * s_max + position) * k_row);
      std::copy_n(v.begin() + (b * z.s + position) * k_row, k_row, v_cache.begin() + (b * s_max + position) * k_row);
    }
    EXPECT_LT(ErrorOf(got, rows), error) << position;
    EXPECT_TRUE(SameBits(device_k_cache.Get(), k_cache) && SameBits(device_v_cache.Get(), v_cache)) << position;
  }
}

TEST(CudaCachedAttentionTest, AgreesWithTheReference) {
  TestCachedAttention<BFloat16>({2, 21, 4, 2, 24}, 2e-6);
  TestCachedAttention<float>({1, 9, 3, 1, 130}, 2e-6);
}

}  // namespace
}  // namespace angel_ptm::emulated
