// CUDA kernels that move tokens to expert rows and back, compared with the host backend.
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/support/expert_routing.h"

namespace angel_ptm::emulated {
namespace {

template <typename T>
struct Experts {
  Experts(const RoutingShape& s, std::int64_t width)
      : random(14),
        layout(s, RouteTokens(s, random)),
        h(width),
        rows(RandomElements<T>(layout.rows_max * h, random)),
        x(RandomElements<T>(s.t * h, random)),
        before(RandomElements<T>(s.t * h, random)),
        weights(RandomElements<float>(s.t * s.k, random)),
        pair_of_row(layout.pair_of_row),
        row_of_pair(layout.row_of_pair),
        active(std::vector<std::int32_t>{layout.active_blocks}) {
    for (std::size_t i = 0; i < rows.size(); i += 5) rows[i] = Element<T>(-0.0f);  // whose sign sums may lose
  }

  std::mt19937 random;
  TestLayout layout;
  std::int64_t h;
  std::vector<T> rows, x, before;
  std::vector<float> weights;
  DeviceArray<std::int32_t> pair_of_row, row_of_pair, active;
};

// Compares the device's result with the host's, from the same initial values, in the rows that are used.
template <typename T, typename Args>
void ExpectHostBits(void (*launch)(const Args&, const cuda::LaunchContext&), const Args& device, const Args& host,
                    DeviceArray<T>& got, std::vector<T>& want, std::int64_t used) {
  const std::vector<T> before = want;
  std::vector<T> result = RunClean([&] { launch(device, {}); }, got, [&] { got.Set(before); });
  RunOnHost(host);
  result.resize(static_cast<std::size_t>(used));
  EXPECT_TRUE(SameBits(result, std::vector<T>(want.begin(), want.begin() + used)));
}

template <typename T>
void TestDispatch(const RoutingShape& s, std::int64_t h) {
  SCOPED_TRACE(ToString(s));
  Experts<T> e(s, h);
  DeviceArray<T> x(e.x), rows(e.rows), dx(e.before);
  std::vector<T> want_rows = e.rows;
  DispatchArgs host = {.rows = {want_rows.data(), TypeOf(T())}, .x = {e.x.data(), TypeOf(T())}};
  host.pair_of_row = e.layout.pair_of_row.data(), host.active_blocks = &e.layout.active_blocks;
  host.t = s.t, host.h = h, host.k = s.k, host.block_rows = s.block_rows, host.blocks_max = e.layout.blocks_max;
  DispatchArgs device = host;
  device.rows = Out(rows), device.x = In(x);
  device.pair_of_row = e.pair_of_row.data(), device.active_blocks = e.active.data();
  ExpectHostBits(&cuda::LaunchDispatch, device, host, rows, want_rows, e.layout.active_rows() * h);
  DeviceArray<T> drows(e.rows);
  for (const bool accumulate : {false, true}) {
    std::vector<T> want = e.before;
    DispatchGradArgs host_grad = {.dx = {want.data(), TypeOf(T())}, .drows = {e.rows.data(), TypeOf(T())}};
    host_grad.row_of_pair = e.layout.row_of_pair.data();
    host_grad.t = s.t, host_grad.h = h, host_grad.k = s.k, host_grad.accumulate = accumulate;
    DispatchGradArgs device_grad = host_grad;
    device_grad.dx = Out(dx), device_grad.drows = In(drows), device_grad.row_of_pair = e.row_of_pair.data();
    ExpectHostBits(&cuda::LaunchDispatchGrad, device_grad, host_grad, dx, want, s.t * h);
  }
}

template <typename T>
void TestCombine(const RoutingShape& s, std::int64_t h) {
  SCOPED_TRACE(ToString(s));
  Experts<T> e(s, h);
  DeviceArray<T> rows(e.rows), base(e.before), y(e.x), dy(e.x), drows(e.rows);
  DeviceArray<float> weights(e.weights), dweights(s.t * s.k);
  std::vector<T> want_y = e.x;
  CombineArgs host = {.y = {want_y.data(), TypeOf(T())}, .base = {e.before.data(), TypeOf(T())}};
  host.rows = {e.rows.data(), TypeOf(T())}, host.weights = {e.weights.data(), DType::kFloat32};
  host.row_of_pair = e.layout.row_of_pair.data(), host.t = s.t, host.h = h, host.k = s.k;
  CombineArgs device = host;
  device.y = Out(y), device.base = In(base), device.rows = In(rows), device.weights = In(weights);
  device.row_of_pair = e.row_of_pair.data();
  ExpectHostBits(&cuda::LaunchCombine, device, host, y, want_y, s.t * h);
  host.base = device.base = {};
  ExpectHostBits(&cuda::LaunchCombine, device, host, y, want_y, s.t * h);

  std::vector<T> want_drows = e.rows;
  std::vector<float> want_dweights(e.weights.size());
  CombineGradArgs host_grad = {.drows = {want_drows.data(), TypeOf(T())}};
  host_grad.dweights = {want_dweights.data(), DType::kFloat32}, host_grad.dy = {e.x.data(), TypeOf(T())};
  host_grad.rows = host.rows, host_grad.weights = host.weights;
  host_grad.pair_of_row = e.layout.pair_of_row.data(), host_grad.active_blocks = &e.layout.active_blocks;
  host_grad.t = s.t, host_grad.h = h, host_grad.k = s.k, host_grad.block_rows = s.block_rows;
  host_grad.blocks_max = e.layout.blocks_max;
  CombineGradArgs device_grad = host_grad;
  device_grad.drows = Out(drows), device_grad.dweights = Out(dweights), device_grad.dy = In(dy);
  device_grad.rows = In(rows), device_grad.weights = In(weights);
  device_grad.pair_of_row = e.pair_of_row.data(), device_grad.active_blocks = e.active.data();
  ExpectHostBits(&cuda::LaunchCombineGrad, device_grad, host_grad, drows, want_drows, e.layout.active_rows() * h);
  EXPECT_LT(ErrorOf(dweights.Get(), ToDoubles(want_dweights)), 1e-6);
}

// Parts of the experts: some of the pairs, more choices than experts, every pair, no pair.
constexpr RoutingShape kParts[] = {{9, 2, 2, 4, Spread::kRandom, 2, 6},
                                   {9, 1, 3, 4, Spread::kRandom, 3, 4},
                                   {9, 2, 2, 4, Spread::kFirstExpertsOnly, 0, 6},
                                   {9, 2, 2, 4, Spread::kFirstExpertsOnly, 2, 6}};

TEST(CudaExpertRowsTest, DispatchHasTheHostsBits) {
  TestDispatch<float>({5, 3, 2, 4}, 24);
  TestDispatch<BFloat16>({5, 3, 2, 4}, 24);
  TestDispatch<BFloat16>({9, 6, 1, 8, Spread::kFirstExpertsOnly}, 13);
  for (const RoutingShape& s : kParts) {
    TestDispatch<float>(s, 13);
    TestDispatch<BFloat16>(s, 24);
  }
}

TEST(CudaExpertRowsTest, CombineHasTheHostsBits) {
  TestCombine<float>({5, 3, 2, 4}, 24);
  TestCombine<BFloat16>({5, 3, 2, 4}, 264);
  TestCombine<float>({9, 6, 3, 8, Spread::kHalfOfExperts}, 13);
  for (const RoutingShape& s : kParts) {
    TestCombine<float>(s, 13);
    TestCombine<BFloat16>(s, 24);
  }
}

}  // namespace
}  // namespace angel_ptm::emulated
