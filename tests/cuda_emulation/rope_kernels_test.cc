// CUDA kernels for the positions and norms of queries and keys.
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/rope_table.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/qk_rope_norm.h"
#include "tests/reference/rope.h"

namespace angel_ptm::emulated {
namespace {

constexpr float kEpsilon = 1e-5f;

// The limits of the host backend's test: an angle is rounded to fp32 four times, the result once.
TEST(CudaRopeTableTest, AgreesWithTheReference) {
  struct Table {
    std::int64_t t, d;
    double theta, alpha;
  };
  for (const auto& [t, d, theta, alpha] : {Table{1, 2, 10000, 0}, {37, 88, 500000, 50}, {3, 256, 10000, 1000}}) {
    std::vector<std::int32_t> positions;
    for (std::int32_t i = 0; i < t; ++i) positions.push_back(i == t - 1 ? 100000 : i);
    DeviceArray<std::int32_t> device_positions(positions);
    DeviceArray<float> cos_sin(t * d);
    RopeTableArgs args = {.cos_sin = Out(cos_sin), .positions = device_positions.data(), .t = t, .d = d};
    args.theta = theta, args.alpha = alpha;
    const std::vector<float> got = RunClean([&] { cuda::LaunchRopeTable(args, {}); }, cos_sin);
    std::vector<double> want(got.size());
    reference::RopeTable(want.data(), positions.data(), t, d, theta, alpha);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::int32_t position = positions[i / static_cast<std::size_t>(d)];
      EXPECT_NEAR(static_cast<double>(got[i]), want[i], position * 0x1p-22 + 0x1p-24) << i;
    }
  }
}

struct RopeShape {
  std::int64_t t, q_heads, kv_heads, d;
  std::int64_t normed() const { return (q_heads + kv_heads) * d; }
  std::int64_t row() const { return normed() + kv_heads * d; }
};

template <typename T>
struct Qk {
  explicit Qk(const RopeShape& z)
      : shape(z),
        random(23),
        qkv(RandomElements<T>(z.t * z.row(), random)),
        dq(RandomElements<T>(z.t * z.q_heads * z.d, random)),
        dk(RandomElements<T>(z.t * z.kv_heads * z.d, random)),
        q_weight(RandomElements<T>(z.d, random)),
        k_weight(RandomElements<T>(z.d, random)),
        cos_sin(static_cast<std::size_t>(z.t * z.d)),
        device_qkv(qkv),
        device_q_weight(q_weight),
        device_k_weight(k_weight),
        device_cos_sin(z.t * z.d),
        q_rstd(z.t * z.q_heads),
        k_rstd(z.t * z.kv_heads) {
    std::vector<std::int32_t> positions;
    for (std::int32_t i = 0; i < z.t; ++i) positions.push_back(3 * i);
    std::vector<double> table(cos_sin.size());
    reference::RopeTable(table.data(), positions.data(), z.t, z.d, 10000, 0);
    for (std::size_t i = 0; i < table.size(); ++i) cos_sin[i] = static_cast<float>(table[i]);
    device_cos_sin.Set(cos_sin);
  }
  reference::QkShape Reference() const {
    return {shape.t, shape.q_heads, shape.kv_heads, shape.d, static_cast<double>(kEpsilon)};
  }
  void TestForward(int seeds);
  // The gradients of weights have type Sum.
  template <typename Sum>
  void TestGrad(bool accumulate, int seeds);

  RopeShape shape;
  std::mt19937 random;
  std::vector<T> qkv, dq, dk, q_weight, k_weight;
  std::vector<float> cos_sin;
  DeviceArray<T> device_qkv, device_q_weight, device_k_weight;
  DeviceArray<float> device_cos_sin, q_rstd, k_rstd;
};

template <typename T>
void Qk<T>::TestForward(int seeds) {
  DeviceArray<T> q(shape.t * shape.q_heads * shape.d), k(shape.t * shape.kv_heads * shape.d);
  QkRopeNormArgs args = {.q = Out(q), .k = Out(k), .q_rstd = Out(q_rstd), .k_rstd = Out(k_rstd)};
  args.qkv = In(device_qkv), args.cos_sin = In(device_cos_sin);
  args.q_weight = In(device_q_weight), args.k_weight = In(device_k_weight);
  args.t = shape.t, args.q_heads = shape.q_heads, args.kv_heads = shape.kv_heads, args.d = shape.d;
  args.epsilon = kEpsilon;
  const std::vector<T> got = RunClean([&] { cuda::LaunchQkRopeNorm(args, {}); }, q, [] {}, seeds);
  std::vector<double> want_q(got.size()), want_k(dk.size()), want_q_rstd(q_rstd.Get().size()),
      want_k_rstd(k_rstd.Get().size());
  reference::QkRopeNorm(want_q.data(), want_k.data(), want_q_rstd.data(), want_k_rstd.data(), ToDoubles(qkv).data(),
                        ToDoubles(cos_sin).data(), ToDoubles(q_weight).data(), ToDoubles(k_weight).data(), Reference());
  EXPECT_LT(ErrorOf(got, want_q), 1e-6);
  EXPECT_LT(ErrorOf(k.Get(), want_k), 1e-6);
  EXPECT_LT(ErrorOf(q_rstd.Get(), want_q_rstd), 1e-6);
  EXPECT_LT(ErrorOf(k_rstd.Get(), want_k_rstd), 1e-6);
}

template <typename T>
template <typename Sum>
void Qk<T>::TestGrad(bool accumulate, int seeds) {
  const auto before = RandomElements<Sum>(shape.d, random);
  DeviceArray<T> device_dq(dq), device_dk(dk), dqkv(qkv);
  DeviceArray<Sum> dq_weight(before), dk_weight(before);
  QkRopeNormGradArgs args = {.dqkv = Out(dqkv), .dq_weight = Out(dq_weight), .dk_weight = Out(dk_weight)};
  args.dq = In(device_dq), args.dk = In(device_dk), args.qkv = In(device_qkv), args.cos_sin = In(device_cos_sin);
  args.q_rstd = In(q_rstd), args.k_rstd = In(k_rstd);
  args.q_weight = In(device_q_weight), args.k_weight = In(device_k_weight);
  args.t = shape.t, args.q_heads = shape.q_heads, args.kv_heads = shape.kv_heads, args.d = shape.d;
  args.accumulate_dweight = accumulate;
  DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / 4);
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  const auto prepare = [&] { dq_weight.Set(before), dk_weight.Set(before); };
  const std::vector<T> got = RunClean([&] { cuda::LaunchQkRopeNormGrad(args, context); }, dqkv, prepare, seeds);
  std::vector<double> want = ToDoubles(qkv), want_q(before.size()), want_k;  // columns of values stay
  if (accumulate) want_q = ToDoubles(before);
  want_k = want_q;
  reference::QkRopeNormGrad(want.data(), want_q.data(), want_k.data(), ToDoubles(dq).data(), ToDoubles(dk).data(),
                            ToDoubles(qkv).data(), ToDoubles(cos_sin).data(), ToDoubles(q_weight).data(),
                            ToDoubles(k_weight).data(), Reference());
  EXPECT_LT(ErrorOf(got, want), 2e-6);
  EXPECT_LT(ErrorOf(dq_weight.Get(), want_q), 2e-6);
  EXPECT_LT(ErrorOf(dk_weight.Get(), want_k), 2e-6);
}

template <typename T, typename Sum>
void TestQk(const RopeShape& z, bool accumulate, int seeds) {
  SCOPED_TRACE(testing::Message() << z.t << " tokens, heads " << z.q_heads << "/" << z.kv_heads << " d " << z.d);
  Qk<T> qk(z);
  qk.TestForward(seeds);
  qk.template TestGrad<Sum>(accumulate, seeds);
}

TEST(CudaQkRopeNormTest, AgreesWithTheReference) {
  TestQk<float, float>({1, 1, 1, 2}, false, 1);
  TestQk<BFloat16, BFloat16>({7, 9, 3, 24}, true, 1);
  TestQk<BFloat16, float>({5, 2, 1, 130}, false, 0);
  TestQk<BFloat16, float>({300, 1, 1, 6}, true, 0);
}

}  // namespace
}  // namespace angel_ptm::emulated
