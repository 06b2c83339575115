// CUDA kernels that work element by element.
#include <cmath>

#include "kernels/ops/adamw.h"
#include "kernels/ops/add.h"
#include "kernels/ops/cast.h"
#include "kernels/ops/ema.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/swiglu.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/gelu.h"
#include "tests/reference/swiglu.h"

namespace angel_ptm::emulated {
namespace {

// Values whose rounding is a special case: ties, the largest number, infinities, NaN, zeros, subnormals.
std::vector<float> SpecialValues(std::int64_t n) {
  std::mt19937 random(3);
  std::vector<float> values = RandomElements<float>(n, random);
  const float special[] = {1.00390625f, 1.01171875f, 3.4e38f, -3.4e38f, INFINITY, -INFINITY, NAN, 0.0f, -0.0f, 1e-39f};
  for (std::size_t i = 0; i < std::min(values.size(), std::size(special)); ++i) values[i] = special[i];
  return values;
}

TEST(CudaCastTest, HasTheHostsBits) {
  for (const std::int64_t n : {0, 1, 7, 8, 1003, 5000}) {
    const std::vector<float> x = SpecialValues(n);
    DeviceArray<float> device_x(x), back(n);
    DeviceArray<BFloat16> y(n);
    const std::vector<BFloat16> rounded =
        RunClean([&] { cuda::LaunchCast({.y = Out(y), .x = In(device_x), .n = n}, {}); }, y);
    std::vector<BFloat16> want(static_cast<std::size_t>(n));
    Round(want, x);
    EXPECT_TRUE(SameBits(rounded, want)) << n;
    const std::vector<float> widened =
        RunClean([&] { cuda::LaunchCast({.y = Out(back), .x = In(y), .n = n}, {}); }, back);
    std::vector<float> wide(static_cast<std::size_t>(n));
    Widen(wide, want);
    EXPECT_TRUE(SameBits(widened, wide)) << n;
  }
}

template <typename T>
void TestAdd(std::int64_t rows, std::int64_t width, std::int64_t begin, std::int64_t end, bool with_x,
             bool accumulate) {
  std::mt19937 random(4);
  const std::vector<T> x = RandomElements<T>(rows * width, random), before = RandomElements<T>(rows * width, random);
  DeviceArray<T> device_x(x), device_y(before);
  AddArgs args = {.y = Out(device_y), .x = In(device_x), .rows = rows, .width = width};
  args.column_begin = begin, args.column_end = end, args.accumulate = accumulate;
  if (!with_x) args.x.data = nullptr;
  const std::vector<T> got = RunClean([&] { cuda::LaunchAdd(args, {}); }, device_y, [&] { device_y.Set(before); });
  std::vector<T> want = before;
  args.y.data = want.data();
  if (with_x) args.x.data = x.data();
  RunOnHost(args);
  EXPECT_TRUE(SameBits(got, want)) << rows << " x " << width << " columns " << begin << " to " << end;
}

TEST(CudaAddTest, HasTheHostsBits) {
  for (const bool accumulate : {false, true}) {
    TestAdd<float>(3, 24, 8, 16, true, accumulate);
    TestAdd<BFloat16>(3, 24, 8, 16, true, accumulate);
    TestAdd<float>(5, 13, 2, 11, true, accumulate);
    TestAdd<BFloat16>(5, 13, 0, 13, true, accumulate);
    TestAdd<BFloat16>(1, 1, 0, 1, true, accumulate);
  }
  TestAdd<float>(5, 13, 0, 13, false, false);
  TestAdd<BFloat16>(2, 16, 0, 16, false, false);
}

// Rows after the active blocks are neither read nor written.
template <typename T>
void TestSwiglu(std::int64_t rows, std::int64_t f, std::int64_t block_rows, std::int32_t active) {
  std::mt19937 random(5);
  const bool by_blocks = block_rows > 0;
  const std::int64_t used = by_blocks ? active * block_rows : rows;
  const std::vector<T> gate_up = RandomElements<T>(used * 2 * f, random, 3.0f),
                       dy = RandomElements<T>(used * f, random);
  DeviceArray<T> device_gate_up(gate_up), device_dy(dy), y(used * f), dgate_up(used * 2 * f);
  DeviceArray<std::int32_t> blocks(std::vector<std::int32_t>{active});
  SwigluArgs args = {.y = Out(y), .gate_up = In(device_gate_up), .rows = rows, .f = f, .block_rows = block_rows};
  SwigluGradArgs grad = {.dgate_up = Out(dgate_up), .dy = In(device_dy), .gate_up = In(device_gate_up), .rows = rows};
  grad.f = f, grad.block_rows = block_rows;
  if (by_blocks) args.active_blocks = grad.active_blocks = blocks.data();
  std::vector<double> want(static_cast<std::size_t>(used * f)), want_grad(static_cast<std::size_t>(used * 2 * f));
  reference::Swiglu(want.data(), ToDoubles(gate_up).data(), used, f);
  reference::SwigluGrad(want_grad.data(), ToDoubles(dy).data(), ToDoubles(gate_up).data(), used, f);
  EXPECT_LT(ErrorOf(RunClean([&] { cuda::LaunchSwiglu(args, {}); }, y), want), 1e-6);
  EXPECT_LT(ErrorOf(RunClean([&] { cuda::LaunchSwigluGrad(grad, {}); }, dgate_up), want_grad), 1e-6);
}

TEST(CudaSwigluTest, AgreesWithTheReference) {
  TestSwiglu<float>(5, 24, 0, 0);
  TestSwiglu<BFloat16>(5, 24, 0, 0);
  TestSwiglu<float>(3, 7, 0, 0);
  TestSwiglu<BFloat16>(12, 33, 4, 2);
  TestSwiglu<float>(8, 16, 4, 0);
}

struct AdamWState {
  std::vector<float> p, m, v, grad;
  std::vector<BFloat16> rounded;
};

AdamWState StateOf(std::int64_t n) {
  std::mt19937 random(6);
  AdamWState state = {RandomElements<float>(n, random), RandomElements<float>(n, random, 0.1f), {}, {}, {}};
  for (const float m : state.m) state.v.push_back(m * m);
  state.grad = RandomElements<float>(n, random, 7.0f);
  state.rounded.resize(static_cast<std::size_t>(n));
  return state;
}

// With `in_place` the gradient is bf16 and lies in the place of the parameters.
void TestAdamW(std::int64_t n, std::int64_t unit_offset, bool has_master, bool in_place = false) {
  const AdamWState before = StateOf(n);
  const std::vector<ElementSpan> spans = {{0, 3}, {5, 6}, {13, 21}, {700, 900}};
  const std::vector<AdamWScalars> scalars = {{3e-3f, 0.37f, 0.271f, 0.1426f}};
  DeviceArray<float> p(before.p), m(before.m), v(before.v), grad(before.grad);
  DeviceArray<BFloat16> rounded(before.rounded);
  DeviceArray<ElementSpan> device_spans(spans);
  DeviceArray<AdamWScalars> device_scalars(scalars);
  std::vector<BFloat16> narrow(before.grad.size());
  Round(narrow, before.grad);
  AdamWArgs args = {.m = Out(m), .v = Out(v), .grad = In(grad), .n = n, .unit_offset = unit_offset};
  if (in_place) args.grad = In(rounded);
  args.param = has_master ? Out(rounded) : Out(p);
  if (has_master) args.master = Out(p);
  args.no_decay = device_spans.data(), args.no_decay_count = static_cast<std::int64_t>(spans.size());
  args.scalars = device_scalars.data();
  const auto prepare = [&] {
    p.Set(before.p), m.Set(before.m), v.Set(before.v);
    if (in_place) rounded.Set(narrow);
  };
  const std::vector<float> got = RunClean([&] { cuda::LaunchAdamW(args, {}); }, p, prepare);

  AdamWState want = before;
  const Operand host_p = {want.p.data(), DType::kFloat32};
  args.param = has_master ? Operand{want.rounded.data(), DType::kBFloat16} : host_p;
  if (has_master) args.master = host_p;
  args.m.data = want.m.data(), args.v.data = want.v.data(), args.grad.data = want.grad.data();
  if (in_place) args.grad.data = narrow.data();
  args.no_decay = spans.data(), args.scalars = scalars.data();
  RunOnHost(args);
  EXPECT_TRUE(SameBits(got, want.p)) << n;
  EXPECT_TRUE(SameBits(m.Get(), want.m)) << n;
  EXPECT_TRUE(SameBits(v.Get(), want.v)) << n;
  if (has_master) {
    EXPECT_TRUE(SameBits(rounded.Get(), want.rounded)) << n;
  }
}

TEST(CudaAdamWTest, HasTheHostsBits) {
  TestAdamW(1, 0, false);
  TestAdamW(2051, 0, false);
  TestAdamW(1000, 3, true);
  TestAdamW(64, 690, true);
  TestAdamW(1003, 3, true, /*in_place=*/true);
}

TEST(CudaEmaTest, HasTheHostsBits) {
  for (const std::int64_t n : {1, 8, 1003}) {
    std::mt19937 random(7);
    const std::vector<float> before = RandomElements<float>(n, random), param = RandomElements<float>(n, random);
    const std::vector<EmaScalars> scalars = {{0.013f}};
    DeviceArray<float> ema(before), device_param(param);
    DeviceArray<EmaScalars> device_scalars(scalars);
    EmaArgs args = {.ema = Out(ema), .param = In(device_param), .n = n, .scalars = device_scalars.data()};
    const std::vector<float> got = RunClean([&] { cuda::LaunchEma(args, {}); }, ema, [&] { ema.Set(before); });
    std::vector<float> want = before;
    RunOnHost(EmaArgs{.ema = {want.data(), DType::kFloat32},
                      .param = {param.data(), DType::kFloat32},
                      .n = n,
                      .scalars = scalars.data()});
    EXPECT_TRUE(SameBits(got, want)) << n;
  }
}

template <typename T>
void TestGelu(std::int64_t n, bool erf) {
  std::mt19937 random(20);
  std::vector<T> x = RandomElements<T>(n, random, 4.0f);
  const std::vector<T> dy = RandomElements<T>(n, random);
  const float special[] = {0.0f, 3e38f, -3e38f, 16.5f, -16.5f, 10.5f, -10.5f};
  for (std::size_t i = 0; i < std::min(x.size(), std::size(special)); ++i) x[i] = Element<T>(special[i]);
  DeviceArray<T> device_x(x), device_dy(dy), y(n), dx(n);
  std::vector<double> want_y(x.size()), want_dx(x.size());
  reference::Gelu(want_y.data(), ToDoubles(x).data(), n, erf);
  reference::GeluGrad(want_dx.data(), ToDoubles(dy).data(), ToDoubles(x).data(), n, erf);
  std::vector<T> got = RunClean([&] { cuda::LaunchGelu({.y = Out(y), .x = In(device_x), .n = n, .erf = erf}, {}); }, y);
  // Beside 3e38, errors in the other values would not show.
  for (const std::size_t huge : {1u, 2u}) {
    if (huge >= got.size()) continue;
    EXPECT_EQ(ToFloat(got[huge]), huge == 1 ? ToFloat(x[huge]) : 0.0f);
    got[huge] = T{}, want_y[huge] = 0;
  }
  EXPECT_LT(ErrorOf(got, want_y), 1e-6) << n;
  const GeluGradArgs args = {.dx = Out(dx), .dy = In(device_dy), .x = In(device_x), .n = n, .erf = erf};
  EXPECT_LT(ErrorOf(RunClean([&] { cuda::LaunchGeluGrad(args, {}); }, dx), want_dx), 1e-6) << n;
}

TEST(CudaGeluTest, AgreesWithTheReference) {
  for (const std::int64_t n : {1, 8, 1003}) {
    for (const bool erf : {false, true}) {
      TestGelu<float>(n, erf);
      TestGelu<BFloat16>(n, erf);
    }
  }
}

}  // namespace
}  // namespace angel_ptm::emulated
