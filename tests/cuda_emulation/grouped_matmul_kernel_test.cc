// Products of experts' weights with their rows.
#include <memory>

#include "kernels/ops/grouped_matmul.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/grouped_matmul.h"
#include "tests/support/expert_routing.h"

namespace angel_ptm::emulated {
namespace {

// Rows of tokens and of gradients, zero in padding rows. What is behind the active blocks is not there.
template <typename S>
struct Experts {
  Experts(const RoutingShape& s, std::int64_t width_n, std::int64_t width_k)
      : random(19),
        n(width_n),
        k(width_k),
        layout(s, RouteTokens(s, random)),
        x(Rows(k)),
        dy(Rows(n)),
        w(RandomElements<S>(s.e * n * k, random)),
        device_x(layout.rows_max * k),
        device_dy(layout.rows_max * n),
        device_w(w),
        block_expert(layout.block_expert),
        active(std::vector<std::int32_t>{layout.active_blocks}) {
    device_x.Set(x);
    device_dy.Set(dy);
  }
  template <typename Args>
  void SetShape(Args& args) {
    args.block_expert = block_expert.data(), args.active_blocks = active.data(), args.n = n, args.k = k;
    args.e = layout.shape.e, args.block_rows = layout.shape.block_rows, args.blocks_max = layout.blocks_max;
  }
  std::vector<S> Rows(std::int64_t width) {
    std::vector<S> rows = RandomElements<S>(layout.active_rows() * width, random);
    for (std::int64_t i = 0; i < layout.active_rows() * width; ++i) {
      if (layout.pair_of_row[static_cast<std::size_t>(i / width)] < 0) rows[static_cast<std::size_t>(i)] = S{};
    }
    return rows;
  }

  std::mt19937 random;
  std::int64_t n, k;
  TestLayout layout;
  std::vector<S> x, dy, w;
  DeviceArray<S> device_x, device_dy, device_w;
  DeviceArray<std::int32_t> block_expert, active;
};

template <typename Args>
cuda::LaunchContext Workspace(const Args& args, std::unique_ptr<DeviceArray<std::int32_t>>& memory) {
  memory = std::make_unique<DeviceArray<std::int32_t>>(cuda::WorkspaceBytes(args) / 4);
  return {.workspace = reinterpret_cast<std::byte*>(memory->data())};
}

// y = x w^T, or dx = dy w.
template <typename T, typename S>
void TestProduct(Experts<S>& e, bool forward, int seeds) {
  const std::int64_t out = forward ? e.n : e.k, rows = e.layout.active_rows();
  DeviceArray<T> c(e.layout.rows_max * out);
  GroupedMatmulArgs args = {.c = Out(c), .a = In(forward ? e.device_x : e.device_dy), .b = In(e.device_w)};
  e.SetShape(args);
  args.n = out, args.k = forward ? e.k : e.n, args.trans_b = forward;
  std::unique_ptr<DeviceArray<std::int32_t>> memory;
  const cuda::LaunchContext context = Workspace(args, memory);
  std::vector<T> got = RunClean([&] { cuda::LaunchGroupedMatmul(args, context); }, c, [] {}, seeds);
  got.resize(static_cast<std::size_t>(rows * out));
  std::vector<double> want(got.size());
  reference::GroupedMatmul(want.data(), ToDoubles(forward ? e.x : e.dy).data(), ToDoubles(e.w).data(),
                           e.layout.block_expert.data(), e.layout.active_blocks, e.layout.shape.block_rows, args.n,
                           args.k, args.trans_b);
  EXPECT_LT(ErrorOf(got, want), 1e-6) << "forward " << forward;
}

template <typename T, typename S>
void TestGradWeight(Experts<S>& e, bool accumulate, int seeds) {
  const auto before = RandomElements<T>(e.layout.shape.e * e.n * e.k, e.random);
  DeviceArray<T> dw(before);
  GroupedMatmulGradWeightArgs args = {.dw = Out(dw), .dy = In(e.device_dy), .x = In(e.device_x)};
  e.SetShape(args);
  args.accumulate = accumulate;
  std::unique_ptr<DeviceArray<std::int32_t>> memory;
  const cuda::LaunchContext context = Workspace(args, memory);
  const std::vector<T> got =
      RunClean([&] { cuda::LaunchGroupedMatmulGradWeight(args, context); }, dw, [&] { dw.Set(before); }, seeds);
  std::vector<double> want(got.size());
  reference::GroupedMatmulGradWeight(want.data(), ToDoubles(e.dy).data(), ToDoubles(e.x).data(),
                                     e.layout.block_expert.data(), e.layout.active_blocks, e.layout.shape.block_rows,
                                     e.n, e.k, e.layout.shape.e);
  for (std::size_t i = 0; accumulate && i < want.size(); ++i) want[i] += static_cast<double>(ToFloat(before[i]));
  EXPECT_LT(ErrorOf(got, want), 1e-6) << "accumulate " << accumulate;
}

template <typename S>
void TestAll(const RoutingShape& s, std::int64_t n, std::int64_t k, int seeds) {
  SCOPED_TRACE(ToString(s));
  Experts<S> e(s, n, k);
  TestProduct<S>(e, true, seeds);
  TestProduct<S>(e, false, 0);
  TestGradWeight<float>(e, true, 0);
  TestGradWeight<S>(e, false, seeds);
}

// Experts without a token, with one, and with more rows than a tile; blocks lower and higher than one.
TEST(CudaGroupedMatmulTest, AgreesWithTheReference) {
  TestAll<BFloat16>({3, 5, 2, 4}, 40, 25, 1);
  TestAll<BFloat16>({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, 0);
  TestAll<BFloat16>({290, 3, 1, 16}, 16, 24, 0);
  TestAll<BFloat16>({150, 2, 1, 144, Spread::kFirstExpertsOnly}, 136, 40, 0);
}

TEST(CudaGroupedMatmulTest, Fp32AgreesWithTheReference) {
  TestAll<float>({3, 5, 2, 4}, 40, 25, 1);
  TestAll<float>({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, 0);
  TestAll<float>({150, 2, 1, 144, Spread::kFirstExpertsOnly}, 136, 37, 0);
}

TEST(CudaGroupedMatmulTest, ResultsInFp32) {
  Experts<BFloat16> e({9, 4, 2, 8}, 16, 8);
  TestProduct<float>(e, true, 0);
  TestGradWeight<float>(e, false, 0);
}

// A row's bits depend on its token and expert alone.
TEST(CudaGroupedMatmulTest, RowsDoNotDependOnOthers) {
  const RoutingShape s = {40, 3, 1, 16};
  Experts<BFloat16> many(s, 24, 16);
  std::vector<BFloat16> results[2];
  for (std::vector<BFloat16>& result : results) {
    DeviceArray<BFloat16> c(many.layout.rows_max * many.n);
    GroupedMatmulArgs args = {.c = Out(c), .a = In(many.device_x), .b = In(many.device_w)};
    many.SetShape(args);
    args.trans_b = true;
    std::unique_ptr<DeviceArray<std::int32_t>> memory;
    const cuda::LaunchContext context = Workspace(args, memory);
    result = RunClean([&] { cuda::LaunchGroupedMatmul(args, context); }, c, [] {}, 0);
    for (std::int64_t i = 0; i < many.k; ++i) many.x[static_cast<std::size_t>(i)] = BFloat16{0x7fc0};
    many.device_x.Set(many.x);
  }
  EXPECT_FALSE(SameBits(std::vector<BFloat16>(results[0].begin(), results[0].begin() + many.n),
                        std::vector<BFloat16>(results[1].begin(), results[1].begin() + many.n)));
  const auto active = static_cast<std::ptrdiff_t>(many.layout.active_rows() * many.n);
  EXPECT_TRUE(SameBits(std::vector<BFloat16>(results[0].begin() + many.n, results[0].begin() + active),
                       std::vector<BFloat16>(results[1].begin() + many.n, results[1].begin() + active)));
}

}  // namespace
}  // namespace angel_ptm::emulated
