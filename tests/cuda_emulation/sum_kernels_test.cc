// CUDA kernels that sum: norms, squares, losses, rows of a table.
#include <cmath>
#include <type_traits>

#include "comm/ordered_sum.h"
#include "kernels/cuda/cuda_ordered_sum.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/loss_sum.h"
#include "kernels/ops/square_sum.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/rms_norm.h"

namespace angel_ptm::emulated {
namespace {

constexpr float kSumsEpsilon = 1e-5f;

template <typename T>
void TestAddRmsNorm(std::int64_t t, std::int64_t h, bool with_delta) {
  std::mt19937 random(8);
  const std::vector<T> x = RandomElements<T>(t * h, random), delta = RandomElements<T>(t * h, random),
                       weight = RandomElements<T>(h, random);
  std::vector<T> summed = x;
  for (std::size_t i = 0; with_delta && i < x.size(); ++i) summed[i] = Element<T>(ToFloat(x[i]) + ToFloat(delta[i]));
  DeviceArray<T> device_x(x), device_delta(delta), device_weight(weight), sum(t * h), y(t * h);
  DeviceArray<float> rstd(t);
  AddRmsNormArgs args = {
      .y = Out(y), .rstd = Out(rstd), .x = In(device_x), .weight = In(device_weight), .t = t, .h = h};
  if (with_delta) args.sum = Out(sum), args.delta = In(device_delta);
  std::vector<double> want(static_cast<std::size_t>(t * h)), want_rstd(static_cast<std::size_t>(t));
  reference::RmsNorm(want.data(), want_rstd.data(), ToDoubles(summed).data(), ToDoubles(weight).data(), t, h,
                     static_cast<double>(kSumsEpsilon));
  EXPECT_LT(ErrorOf(RunClean([&] { cuda::LaunchAddRmsNorm(args, {}); }, y), want), 1e-6) << t << " x " << h;
  EXPECT_LT(ErrorOf(rstd.Get(), want_rstd), 1e-6);
  if (with_delta) {
    EXPECT_TRUE(SameBits(sum.Get(), summed));
  }
}

TEST(CudaAddRmsNormTest, AgreesWithTheReference) {
  TestAddRmsNorm<float>(3, 264, true);
  TestAddRmsNorm<BFloat16>(3, 264, true);
  TestAddRmsNorm<float>(2, 37, false);
  TestAddRmsNorm<BFloat16>(2, 2500, false);
}

template <typename T>
void TestAddRmsNormGrad(std::int64_t t, std::int64_t h, bool with_dsum, bool accumulate) {
  std::mt19937 random(9);
  const std::vector<T> sum = RandomElements<T>(t * h, random), dy = RandomElements<T>(t * h, random),
                       dsum = RandomElements<T>(t * h, random), weight = RandomElements<T>(h, random);
  const std::vector<float> dweight_before = RandomElements<float>(h, random);
  std::vector<double> y(static_cast<std::size_t>(t * h)), rstd(static_cast<std::size_t>(t)), dx = y;
  std::vector<double> dweight(static_cast<std::size_t>(h));
  const std::vector<double> sums = ToDoubles(sum), weights = ToDoubles(weight);
  reference::RmsNorm(y.data(), rstd.data(), sums.data(), weights.data(), t, h, static_cast<double>(kSumsEpsilon));
  if (accumulate) dweight = ToDoubles(dweight_before);
  reference::RmsNormGrad(dx.data(), dweight.data(), ToDoubles(dy).data(), sums.data(), weights.data(), t, h,
                         static_cast<double>(kSumsEpsilon));
  for (std::size_t i = 0; with_dsum && i < dx.size(); ++i) dx[i] += static_cast<double>(ToFloat(dsum[i]));

  DeviceArray<T> device_sum(sum), device_dy(dy), device_dsum(dsum), device_weight(weight), device_dx(t * h);
  DeviceArray<float> device_rstd(std::vector<float>(rstd.begin(), rstd.end())), device_dweight(dweight_before);
  AddRmsNormGradArgs args = {.dx = Out(device_dx), .dweight = Out(device_dweight), .dy = In(device_dy)};
  args.sum = In(device_sum), args.rstd = In(device_rstd), args.weight = In(device_weight), args.t = t, args.h = h;
  args.accumulate_dweight = accumulate;
  if (with_dsum) args.dsum = In(device_dsum);
  DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / std::int64_t{sizeof(float)});
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  const auto launch = [&] { cuda::LaunchAddRmsNormGrad(args, context); };
  const auto prepare = [&] { device_dweight.Set(dweight_before); };
  EXPECT_LT(ErrorOf(RunClean(launch, device_dweight, prepare, t > 100 ? 1 : 2), dweight), 2e-6) << t << " x " << h;
  EXPECT_LT(ErrorOf(device_dx.Get(), dx), 2e-6) << t << " x " << h;
}

TEST(CudaAddRmsNormTest, GradientsAgreeWithTheReference) {
  TestAddRmsNormGrad<float>(5, 264, true, false);
  TestAddRmsNormGrad<BFloat16>(5, 264, true, true);
  TestAddRmsNormGrad<float>(3, 37, false, true);
  TestAddRmsNormGrad<BFloat16>(266, 8, false, false);    // more tokens than blocks
  TestAddRmsNormGrad<BFloat16>(2, 12288, false, false);  // as much shared memory as is there unasked
}

TEST(CudaSquareSumTest, HasTheHostsBits) {
  for (const std::int64_t groups : {0, 1, 2, 33, 70}) {
    const std::int64_t n = groups * kSquareSumGroup;
    std::mt19937 random(10);
    std::vector<float> values = RandomElements<float>(n, random);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1.0f, static_cast<int>(i % 120) - 60);
    if (groups == 33) values[300] = INFINITY, values[5000] = NAN;
    FixedPointSum before;
    before.Add(0.3);
    before.Add(1e30);
    DeviceArray<float> device_values(values);
    DeviceArray<FixedPointSum> total(std::vector<FixedPointSum>{before});
    SquareSumArgs args = {.total = total.data(), .values = In(device_values), .n = n};
    DeviceArray<FixedPointSum> workspace(cuda::WorkspaceBytes(args) / std::int64_t{sizeof(FixedPointSum)});
    const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
    const auto got = RunClean([&] { cuda::LaunchSquareSum(args, context); }, total, [&] { total.Set({before}); });
    FixedPointSum want = before;
    RunOnHost(SquareSumArgs{.total = &want, .values = {values.data(), DType::kFloat32}, .n = n});
    EXPECT_EQ(got[0], want) << groups;

    std::vector<BFloat16> narrow(values.size());
    Round(narrow, values);
    DeviceArray<BFloat16> device_narrow(narrow);
    args.values = In(device_narrow);
    const auto sum = RunClean([&] { cuda::LaunchSquareSum(args, context); }, total, [&] { total.Set({before}); });
    want = before;
    RunOnHost(SquareSumArgs{.total = &want, .values = {narrow.data(), DType::kBFloat16}, .n = n});
    EXPECT_EQ(sum[0], want) << groups;
  }
}

TEST(CudaLossSumTest, HasTheHostsBits) {
  for (const std::int64_t n : {0, 1, 256, 700}) {
    std::mt19937 random(11);
    const std::vector<float> values = RandomElements<float>(n, random);
    DeviceArray<float> device_values(values), batch_weight(std::vector<float>{17.0f});
    const std::vector<double> before = {0.25, 3, 0.5};
    DeviceArray<double> sums(before);
    const LossSumArgs args = {.loss = sums.data(),
                              .first = sums.data() + 2,
                              .weight = sums.data() + 1,
                              .values = In(device_values),
                              .batch_weight = In(batch_weight),
                              .n = n,
                              .first_n = n / 2};
    const auto got = RunClean([&] { cuda::LaunchLossSum(args, {}); }, sums, [&] { sums.Set(before); });
    double sum = 0, first = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sum += static_cast<double>(values[i]);
      if (i < n / 2) first = sum;
    }
    EXPECT_EQ(got, (std::vector<double>{0.25 + sum, 20, 0.5 + first}));
  }
}

// The blocks of all ranks except this one's own, which lies elsewhere. The blocks lie one behind the other, or each is
// aligned to `unit` bytes.
template <typename To, typename From>
void TestOrderedSum(std::int64_t n, int ranks, int own_rank, bool accumulate, std::int64_t unit = 64) {
  std::mt19937 random(12);
  const std::int64_t stride = (n * std::int64_t{sizeof(From)} + unit - 1) / unit * unit;
  const std::vector<From> blocks = RandomElements<From>(stride / std::int64_t{sizeof(From)} * ranks, random),
                          own = RandomElements<From>(n, random);
  const std::vector<To> before = RandomElements<To>(n, random);
  DeviceArray<From> device_blocks(blocks), device_own(own);
  DeviceArray<To> dst(before);
  const OrderedSumArgs args = {.dst = reinterpret_cast<std::byte*>(dst.data()),
                               .blocks = reinterpret_cast<const std::byte*>(device_blocks.data()),
                               .own = reinterpret_cast<const std::byte*>(device_own.data()),
                               .stride = stride,
                               .n = n,
                               .ranks = ranks,
                               .own_rank = own_rank,
                               .dst_type = TypeOf(To()),
                               .type = TypeOf(From()),
                               .accumulate = accumulate};
  const auto got = RunClean([&] { LaunchCudaOrderedSum(args, nullptr); }, dst, [&] { dst.Set(before); });
  std::vector<const std::byte*> addends;
  for (int r = 0; r < ranks; ++r) {
    const std::byte* const block = reinterpret_cast<const std::byte*>(blocks.data()) + r * stride;
    addends.push_back(r == own_rank ? reinterpret_cast<const std::byte*>(own.data()) : block);
  }
  std::vector<To> want = before;
  if constexpr (std::is_same_v<To, float>) {
    OrderedSum(want.data(), addends, TypeOf(From()), n, accumulate);
  } else {
    OrderedSumRounded(want.data(), addends, TypeOf(From()), n);
  }
  EXPECT_TRUE(SameBits(got, want)) << n << " of " << ranks;
}

TEST(CudaOrderedSumTest, HasTheHostsBits) {
  TestOrderedSum<float, float>(2048, 3, 1, false);
  TestOrderedSum<float, float>(37, 4, 3, true);
  TestOrderedSum<float, BFloat16>(1000, 3, 0, true);
  TestOrderedSum<float, BFloat16>(75, 2, 1, false);
  TestOrderedSum<BFloat16, BFloat16>(1003, 3, 2, false);
  TestOrderedSum<BFloat16, float>(64, 2, 0, false);
  TestOrderedSum<float, float>(1001, 3, 1, true, 1);
  TestOrderedSum<BFloat16, BFloat16>(1001, 3, 1, false, 1);
}

// The result may take the place of this rank's own addends.
TEST(CudaOrderedSumTest, MayOverwriteItsOwnAddends) {
  const std::vector<float> before = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  DeviceArray<float> blocks(std::vector<float>(32, 0.5f)), dst(before);
  OrderedSumArgs args = {.dst = reinterpret_cast<std::byte*>(dst.data()), .stride = 64, .n = 10, .ranks = 2};
  args.blocks = reinterpret_cast<const std::byte*>(blocks.data()), args.own = args.dst, args.own_rank = 1;
  const auto got = RunClean([&] { LaunchCudaOrderedSum(args, nullptr); }, dst, [&] { dst.Set(before); });
  EXPECT_EQ(got, (std::vector<float>{1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5}));
}

struct EmbeddingShape {
  std::int64_t t, h, v;
};

template <typename T, typename Sum>
void TestEmbedding(const EmbeddingShape& s, bool accumulate) {
  std::mt19937 random(12);
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < s.t; ++i) tokens.push_back(static_cast<std::int32_t>(random() % 5 * (s.v - 1) / 4));
  const std::vector<T> table = RandomElements<T>(s.v * s.h, random), dy = RandomElements<T>(s.t * s.h, random);
  const std::vector<Sum> before = RandomElements<Sum>(s.v * s.h, random);
  DeviceArray<std::int32_t> device_tokens(tokens);
  DeviceArray<T> device_table(table), y(s.t * s.h), device_dy(dy);
  DeviceArray<Sum> dtable(before);
  EmbeddingArgs args = {.y = Out(y), .table = In(device_table), .tokens = device_tokens.data(), .t = s.t};
  args.h = s.h, args.v = s.v;
  EmbeddingGradArgs grad = {.dtable = Out(dtable), .dy = In(device_dy), .tokens = device_tokens.data(), .t = s.t};
  grad.h = s.h, grad.v = s.v, grad.accumulate = accumulate;
  const std::vector<T> got = RunClean([&] { cuda::LaunchEmbedding(args, {}); }, y);
  const std::vector<Sum> got_grad =
      RunClean([&] { cuda::LaunchEmbeddingGrad(grad, {}); }, dtable, [&] { dtable.Set(before); }, s.t > 100 ? 1 : 2);
  std::vector<T> want(got.size());
  std::vector<Sum> want_grad = before;
  args.y.data = want.data(), args.table.data = table.data(), args.tokens = tokens.data();
  grad.dtable.data = want_grad.data(), grad.dy.data = dy.data(), grad.tokens = tokens.data();
  RunOnHost(args);
  RunOnHost(grad);
  EXPECT_TRUE(SameBits(got, want));
  EXPECT_TRUE(SameBits(got_grad, want_grad));
}

TEST(CudaEmbeddingTest, HasTheHostsBits) {
  TestEmbedding<float, float>({9, 24, 6}, false);
  TestEmbedding<BFloat16, float>({9, 24, 6}, true);
  TestEmbedding<BFloat16, BFloat16>({9, 13, 6}, false);
  TestEmbedding<BFloat16, BFloat16>({300, 8, 7}, true);
  TestEmbedding<float, float>({2, 2056, 5}, true);
}

}  // namespace
}  // namespace angel_ptm::emulated
