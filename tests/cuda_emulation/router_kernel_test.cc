// CUDA kernels that choose experts and lay out their rows.
#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/ops/router.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/router.h"
#include "tests/support/expert_routing.h"

namespace angel_ptm::emulated {
namespace {

struct RouterShape {
  std::int64_t t, h, e, k;
};

struct Routed {
  std::vector<float> probs, weights;
  std::vector<std::int32_t> experts, counts, loads;  // loads: on top of 5 each
};

template <typename S>
Routed Route(const RouterShape& s, const std::vector<S>& x, const std::vector<S>& gate, int seeds) {
  DeviceArray<S> device_x(x), device_gate(gate);
  DeviceArray<float> probs(s.t * s.e), weights(s.t * s.k);
  DeviceArray<std::int32_t> experts(s.t * s.k), counts(s.e);
  RouterArgs args = {.weights = Out(weights), .probs = Out(probs), .experts = experts.data(), .counts = counts.data()};
  args.x = In(device_x), args.gate = In(device_gate), args.t = s.t, args.h = s.h, args.e = s.e, args.k = s.k;
  Routed routed;
  routed.weights = RunClean([&] { cuda::LaunchRouter(args, {}); }, weights, [] {}, seeds);
  const std::vector<std::int32_t> before(static_cast<std::size_t>(s.e), 5);
  DeviceArray<std::int32_t> loads(before);
  args.loads = loads.data();
  routed.loads = RunClean([&] { cuda::LaunchRouter(args, {}); }, loads, [&] { loads.Set(before); }, seeds);
  routed.probs = probs.Get(), routed.experts = experts.Get(), routed.counts = counts.Get();
  return routed;
}

// The choice among the device's own probabilities is exact, and so are weights and counts.
void ExpectChosenByTheRule(const RouterShape& s, const Routed& got) {
  std::vector<float> weights;
  std::vector<std::int32_t> experts, counts(static_cast<std::size_t>(s.e));
  for (std::int64_t t = 0; t < s.t; ++t) {
    const float* const p_E = got.probs.data() + t * s.e;
    std::vector<std::int32_t> order(static_cast<std::size_t>(s.e));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return p_E[a] > p_E[b]; });
    order.resize(static_cast<std::size_t>(s.k));
    float sum = 0;
    for (const std::int32_t expert : order) {
      sum += p_E[expert];
      experts.push_back(expert);
      ++counts[static_cast<std::size_t>(expert)];
    }
    for (const std::int32_t expert : order) weights.push_back(p_E[expert] / sum);
  }
  EXPECT_EQ(got.experts, experts);
  EXPECT_EQ(got.counts, counts);
  for (std::int32_t& count : counts) count += 5;
  EXPECT_EQ(got.loads, counts);
  EXPECT_TRUE(SameBits(got.weights, weights));
}

template <typename S>
void TestRouter(const RouterShape& s, int seeds) {
  SCOPED_TRACE(testing::Message() << s.t << " tokens of " << s.h << ", " << s.k << " of " << s.e);
  std::mt19937 random(16);
  const auto x = RandomElements<S>(s.t * s.h, random);
  auto gate = RandomElements<S>(s.e * s.h, random, 0.5f);
  if (s.e > 2) std::copy_n(gate.begin(), s.h, gate.end() - s.h);  // ties in every row
  const Routed got = Route(s, x, gate, seeds);
  const auto n = static_cast<std::size_t>(s.t * s.k);
  std::vector<double> weights(n), probs(got.probs.size());
  std::vector<std::int32_t> experts(n), counts(got.counts.size());
  reference::Router(weights.data(), probs.data(), experts.data(), counts.data(), ToDoubles(x).data(),
                    ToDoubles(gate).data(), s.t, s.h, s.e, s.k);
  EXPECT_LT(ErrorOf(got.probs, probs), 2e-6);
  ExpectChosenByTheRule(s, got);
}

TEST(CudaRouterTest, ChoosesByTheRule) {
  TestRouter<float>({1, 8, 1, 1}, 2);
  TestRouter<BFloat16>({37, 24, 5, 5}, 2);
  TestRouter<BFloat16>({70, 32, 40, 3}, 2);
  TestRouter<BFloat16>({9, 13, 130, 34}, 1);
  TestRouter<float>({70, 31, 40, 3}, 1);
}

// As on the host: a NaN in a token makes all of its probabilities NaN, and k different experts are still chosen.
TEST(CudaRouterTest, NanChoosesTheFirstExperts) {
  const RouterShape s = {3, 8, 6, 2};
  std::mt19937 random(17);
  auto x = RandomElements<BFloat16>(s.t * s.h, random);
  x[static_cast<std::size_t>(s.h)] = ToBFloat16(std::numeric_limits<float>::quiet_NaN());
  const Routed got = Route(s, x, RandomElements<BFloat16>(s.e * s.h, random), 0);
  EXPECT_EQ(got.experts[2], 0);
  EXPECT_EQ(got.experts[3], 1);
  EXPECT_TRUE(std::isnan(got.weights[2]) && std::isnan(got.weights[3]));
  EXPECT_FALSE(std::isnan(got.weights[1]) || std::isnan(got.weights[4]));
  EXPECT_EQ(std::accumulate(got.counts.begin(), got.counts.end(), 0), s.t * s.k);
}

// Operands of type S, dgate of type T; each gradient alone or both, added or not.
template <typename T, typename S = BFloat16>
void TestRouterGrad(const RouterShape& s, bool with_dx, bool accumulate, int seeds) {
  SCOPED_TRACE(testing::Message() << s.t << " tokens of " << s.h << ", " << s.k << " of " << s.e);
  constexpr float kCoefficient = 0.3f, kTargetCount = 17;
  std::mt19937 random(21);
  const auto x = RandomElements<S>(s.t * s.h, random), gate = RandomElements<S>(s.e * s.h, random, 0.3f);
  const auto dweights = RandomElements<float>(s.t * s.k, random);
  const auto before_dx = RandomElements<S>(s.t * s.h, random);
  const auto before_dgate = RandomElements<T>(s.e * s.h, random);
  const Routed routed = Route(s, x, gate, 0);
  std::vector<double> want_dx(x.size()), want_dgate(gate.size());
  reference::RouterGrad(want_dx.data(), want_dgate.data(), ToDoubles(dweights).data(), ToDoubles(routed.weights).data(),
                        ToDoubles(routed.probs).data(), routed.experts.data(), routed.counts.data(),
                        ToDoubles(x).data(), ToDoubles(gate).data(), s.t, s.h, s.e, s.k,
                        static_cast<double>(kCoefficient) * static_cast<double>(kTargetCount));
  DeviceArray<S> device_x(x), device_gate(gate), dx(before_dx);
  DeviceArray<T> dgate(before_dgate);
  DeviceArray<float> device_dweights(dweights), weights(routed.weights), probs(routed.probs);
  DeviceArray<float> target_count(std::vector<float>{kTargetCount});
  DeviceArray<std::int32_t> experts(routed.experts), counts(routed.counts);
  RouterGradArgs args = {.dgate = Out(dgate), .dweights = In(device_dweights), .weights = In(weights)};
  if (with_dx) args.dx = Out(dx);
  args.probs = In(probs), args.x = In(device_x), args.gate = In(device_gate), args.experts = experts.data();
  args.counts = counts.data(), args.target_count = target_count.data(), args.aux_coefficient = kCoefficient;
  args.t = s.t, args.h = s.h, args.e = s.e, args.k = s.k;
  args.accumulate_dx = args.accumulate_dgate = accumulate;
  DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / 4);
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  const auto prepare = [&] { dx.Set(before_dx), dgate.Set(before_dgate); };
  const std::vector<T> got = RunClean([&] { cuda::LaunchRouterGrad(args, context); }, dgate, prepare, seeds);
  for (std::size_t i = 0; accumulate && i < want_dgate.size(); ++i) {
    want_dgate[i] += static_cast<double>(ToFloat(before_dgate[i]));
  }
  EXPECT_LT(ErrorOf(got, want_dgate), 1e-5);
  if (!with_dx) return;
  for (std::size_t i = 0; accumulate && i < want_dx.size(); ++i) {
    want_dx[i] += static_cast<double>(ToFloat(before_dx[i]));
  }
  EXPECT_LT(ErrorOf(dx.Get(), want_dx), 1e-5);
}

TEST(CudaRouterGradTest, AgreesWithTheReference) {
  TestRouterGrad<float>({1, 8, 3, 2}, true, false, 1);
  TestRouterGrad<BFloat16>({70, 24, 16, 8}, true, true, 1);
  TestRouterGrad<float>({33, 70, 66, 3}, true, true, 0);
  TestRouterGrad<BFloat16>({530, 20, 5, 1}, false, false, 0);
  TestRouterGrad<float, float>({70, 23, 16, 8}, true, true, 1);
  TestRouterGrad<float, float>({530, 20, 5, 1}, true, false, 0);
}

void TestExpertLayout(const RoutingShape& s, int seeds) {
  SCOPED_TRACE(ToString(s));
  std::mt19937 random(18);
  const TestLayout want(s, RouteTokens(s, random));
  DeviceArray<std::int32_t> experts(want.experts), row_of_pair(s.t * s.k), pair_of_row(want.rows_max);
  DeviceArray<std::int32_t> block_expert(want.blocks_max), active_blocks(1);
  ExpertLayoutArgs args = {.row_of_pair = row_of_pair.data(), .pair_of_row = pair_of_row.data()};
  args.block_expert = block_expert.data(), args.active_blocks = active_blocks.data(), args.experts = experts.data();
  args.t = s.t, args.k = s.k, args.e = s.e, args.block_rows = s.block_rows, args.blocks_max = want.blocks_max;
  DeviceArray<std::int32_t> first(std::vector<std::int32_t>{want.first_expert});
  if (s.is_part()) args.first_expert = first.data();
  DeviceArray<std::int32_t> workspace(cuda::WorkspaceBytes(args) / 4);
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  const auto prepare = [&] {  // no -1, which the patterns of memory not written would be
    row_of_pair.Set(std::vector<std::int32_t>(want.row_of_pair.size(), -7));
    pair_of_row.Set(std::vector<std::int32_t>(want.pair_of_row.size(), -7));
    block_expert.Set(std::vector<std::int32_t>(want.block_expert.size(), -7));
  };
  EXPECT_EQ(RunClean([&] { cuda::LaunchExpertLayout(args, context); }, row_of_pair, prepare, seeds), want.row_of_pair);
  EXPECT_EQ(pair_of_row.Get(), want.pair_of_row);
  EXPECT_EQ(block_expert.Get(), want.block_expert);
  EXPECT_EQ(active_blocks.Get()[0], want.active_blocks);
}

TEST(CudaExpertLayoutTest, HasTheHostsNumbers) {
  for (const RoutingShape& s : RoutingShapes()) TestExpertLayout(s, 0);
  TestExpertLayout({300, 9, 2, 16, Spread::kHalfOfExperts}, 1);
  TestExpertLayout({300, 4, 2, 16, Spread::kRandom, 3, 9}, 1);
  TestExpertLayout({130, 1030, 2, 8}, 0);
  TestExpertLayout({130, 1030, 2, 8, Spread::kRandom, 500, 2000}, 0);
}

}  // namespace
}  // namespace angel_ptm::emulated
