// How near each host kernel is to what this machine can do, at the shapes of the quick start.
//
//   kernels_bench [--json FILE] [threads]
//
// Products are compared with a 1024-cubed matrix product, all other ops with a memcpy that moves the same number of
// bytes in as many threads. Both peaks are measured in the same run. Times are medians: of wall time, with one
// thread of its CPU time.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "angel_ptm/base/expert_blocks.h"
#include "benchmarks/kernel_report.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/expert_layout.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/router.h"
#include "kernels/ops/square_sum.h"
#include "kernels/ops/swiglu.h"

namespace angel_ptm {
namespace {

constexpr int64_t kT = 1024, kH = 256, kF = 256, kE = 24, kK = 2, kV = 8192, kBlockRows = 16, kChunk = 256;
constexpr int64_t kBlocksMax = ExpertBlocksMax(kT, kK, kE, kBlockRows), kRows = kBlocksMax * kBlockRows;

void BenchProducts(Report& report) {
  const KernelContext& ctx = report.context();
  struct Shape {
    const char* name;
    int64_t m, n, k;
    bool trans_a, trans_b;
  };
  for (const Shape& s : {Shape{"matmul qkv [T,512] = x W^T", kT, 512, kH, false, true},
                         Shape{"matmul dx [T,256] = dy W", kT, kH, 512, false, false},
                         Shape{"matmul dW [512,256] = dy^T x", 512, kH, kT, true, false},
                         Shape{"matmul one row [1,512] = x W^T", 1, 512, kH, false, true}}) {
    const Array a(s.m * s.k), b(s.n * s.k), c(s.m * s.n);
    const MatmulArgs args = {
        .c = c, .a = a, .b = b, .m = s.m, .n = s.n, .k = s.k, .trans_a = s.trans_a, .trans_b = s.trans_b};
    report.Product(s.name, 2.0 * static_cast<double>(s.m * s.n * s.k), [&] { CpuKernels().matmul(args, ctx); });
  }
}

struct Routing {
  Array x{kT * kH}, gate{kE * kH, 0.1f}, probs{kT * kE}, weights{kT * kK};
  std::vector<int32_t> experts = std::vector<int32_t>(kT * kK), counts = std::vector<int32_t>(kE),
                       row_of_pair = std::vector<int32_t>(kT * kK), pair_of_row = std::vector<int32_t>(kRows),
                       block_expert = std::vector<int32_t>(kBlocksMax);
  int32_t active_blocks = 0;

  RouterArgs router() {
    return {.weights = weights,
            .probs = probs,
            .experts = experts.data(),
            .counts = counts.data(),
            .x = x,
            .gate = gate,
            .t = kT,
            .h = kH,
            .e = kE,
            .k = kK};
  }
  ExpertLayoutArgs layout() {
    return {.row_of_pair = row_of_pair.data(),
            .pair_of_row = pair_of_row.data(),
            .block_expert = block_expert.data(),
            .active_blocks = &active_blocks,
            .experts = experts.data(),
            .t = kT,
            .k = kK,
            .e = kE,
            .block_rows = kBlockRows,
            .blocks_max = kBlocksMax};
  }
};

void BenchRouting(Report& report, Routing& r) {
  const KernelContext& ctx = report.context();
  const RouterArgs router = r.router();
  report.Stream("router", 4.0 * kT * (kH + 2 * kE), [&] { CpuKernels().router(router, ctx); });
  const ExpertLayoutArgs layout = r.layout();
  report.Stream("expert_layout", 4.0 * (3 * kT * kK + kRows), [&] { CpuKernels().expert_layout(layout, ctx); });
  const Array dx(kT * kH), dgate(kE * kH), dweights(kT * kK);
  const float target_count = kT;
  const RouterGradArgs grad = {.dx = dx,
                               .dgate = dgate,
                               .dweights = dweights,
                               .weights = r.weights,
                               .probs = r.probs,
                               .x = r.x,
                               .gate = r.gate,
                               .experts = r.experts.data(),
                               .counts = r.counts.data(),
                               .target_count = &target_count,
                               .aux_coefficient = 0.01f,
                               .t = kT,
                               .h = kH,
                               .e = kE,
                               .k = kK};
  report.Stream("router_grad", 4.0 * kT * (2 * kH + 2 * kE), [&] { CpuKernels().router_grad(grad, ctx); });
}

void BenchExpertProducts(Report& report, const Routing& r, int64_t n, int64_t k, const std::string& name) {
  const KernelContext& ctx = report.context();
  const Array x(kRows * k), w(kE * n * k), y(kRows * n);
  const double flops = 2.0 * r.active_blocks * kBlockRows * static_cast<double>(n * k);
  GroupedMatmulArgs args = {.c = y,
                            .a = x,
                            .b = w,
                            .block_expert = r.block_expert.data(),
                            .active_blocks = &r.active_blocks,
                            .n = n,
                            .k = k,
                            .e = kE,
                            .block_rows = kBlockRows,
                            .blocks_max = kBlocksMax,
                            .trans_b = true};
  report.Product("grouped_matmul " + name + " y = x W^T", flops, [&] { CpuKernels().grouped_matmul(args, ctx); });
  args.c = x;
  args.a = y;
  args.n = k;
  args.k = n;
  args.trans_b = false;
  report.Product("grouped_matmul " + name + " dx = dy W", flops, [&] { CpuKernels().grouped_matmul(args, ctx); });
  const GroupedMatmulGradWeightArgs grad = {.dw = w,
                                            .dy = y,
                                            .x = x,
                                            .block_expert = r.block_expert.data(),
                                            .active_blocks = &r.active_blocks,
                                            .n = n,
                                            .k = k,
                                            .e = kE,
                                            .block_rows = kBlockRows,
                                            .blocks_max = kBlocksMax};
  report.Product("grouped_matmul_grad_weight " + name, flops,
                 [&] { CpuKernels().grouped_matmul_grad_weight(grad, ctx); });
}

void BenchExpertRows(Report& report, const Routing& r) {
  const KernelContext& ctx = report.context();
  const Array rows(kRows * kH), drows(kRows * kH), x(kT * kH), y(kT * kH), dweights(kT * kK);
  const double row_bytes = 4.0 * kH, active_rows = static_cast<double>(r.active_blocks) * kBlockRows, pairs = kT * kK;
  const DispatchArgs dispatch = {.rows = rows,
                                 .x = x,
                                 .pair_of_row = r.pair_of_row.data(),
                                 .active_blocks = &r.active_blocks,
                                 .t = kT,
                                 .h = kH,
                                 .k = kK,
                                 .block_rows = kBlockRows,
                                 .blocks_max = kBlocksMax};
  report.Stream("dispatch", row_bytes * (kT + active_rows), [&] { CpuKernels().dispatch(dispatch, ctx); });
  const DispatchGradArgs dispatch_grad = {
      .dx = x, .drows = rows, .row_of_pair = r.row_of_pair.data(), .t = kT, .h = kH, .k = kK};
  report.Stream("dispatch_grad", row_bytes * (kT + pairs), [&] { CpuKernels().dispatch_grad(dispatch_grad, ctx); });
  const CombineArgs combine = {.y = y,
                               .base = x,
                               .rows = rows,
                               .weights = r.weights,
                               .row_of_pair = r.row_of_pair.data(),
                               .t = kT,
                               .h = kH,
                               .k = kK};
  report.Stream("combine", row_bytes * (2 * kT + pairs), [&] { CpuKernels().combine(combine, ctx); });
  const CombineGradArgs combine_grad = {.drows = drows,
                                        .dweights = dweights,
                                        .dy = y,
                                        .rows = rows,
                                        .weights = r.weights,
                                        .pair_of_row = r.pair_of_row.data(),
                                        .active_blocks = &r.active_blocks,
                                        .t = kT,
                                        .h = kH,
                                        .k = kK,
                                        .block_rows = kBlockRows,
                                        .blocks_max = kBlocksMax};
  report.Stream("combine_grad", row_bytes * (kT + pairs + active_rows),
                [&] { CpuKernels().combine_grad(combine_grad, ctx); });
}

void BenchSwiglu(Report& report) {
  const Array gate_up(kRows * 2 * kF, 4.0f), y(kRows * kF), dgate_up(kRows * 2 * kF);
  const SwigluArgs args = {.y = y, .gate_up = gate_up, .rows = kRows, .f = kF, .block_rows = kBlockRows};
  report.Stream("swiglu", 4.0 * kRows * kF * 3, [&] { CpuKernels().swiglu(args, report.context()); });
  const SwigluGradArgs grad = {
      .dgate_up = dgate_up, .dy = y, .gate_up = gate_up, .rows = kRows, .f = kF, .block_rows = kBlockRows};
  report.Stream("swiglu_grad", 4.0 * kRows * kF * 5, [&] { CpuKernels().swiglu_grad(grad, report.context()); });
}

void BenchLoss(Report& report) {
  const Array x(kT * kH), w(kV * kH, 0.1f), loss(kT), dx(kT * kH), dw(kV * kH);
  std::vector<int32_t> targets(kT);
  for (int64_t i = 0; i < kT; ++i) targets[i] = static_cast<int32_t>(i * 37 % kV);
  LinearCrossEntropyArgs args = {.token_loss = loss,
                                 .x = x,
                                 .weight = w,
                                 .targets = targets.data(),
                                 .t = kT,
                                 .h = kH,
                                 .v = kV,
                                 .chunk_tokens = kChunk};
  const double flops = 2.0 * kT * kH * kV;
  report.Product("linear_cross_entropy loss only", flops,
                 [&] { CpuKernels().linear_cross_entropy(args, report.context()); });
  args.dx = dx;
  args.dweight = dw;
  report.Product("linear_cross_entropy with gradients", 3 * flops,
                 [&] { CpuKernels().linear_cross_entropy(args, report.context()); });
}

void BenchOptimizer(Report& report) {
  for (const int64_t n : {int64_t{1} << 18, int64_t{1} << 24}) {
    const std::string size = n < (1 << 20) ? " 256 Ki elements" : " 16 Mi elements";
    const Array p(n), m(n), v(n), g(n);
    for (int64_t i = 0; i < n; ++i) v.get()[i] = std::abs(v.get()[i]);
    const AdamWScalars scalars = {1e-3f, 0.5f, 0.1f, 0.05f};
    const AdamWArgs args = {.param = p, .m = m, .v = v, .grad = g, .n = n, .scalars = &scalars};
    report.Stream("adamw" + size, 28.0 * static_cast<double>(n), [&] { CpuKernels().adamw(args, report.context()); });
    FixedPointSum total;
    const SquareSumArgs square = {.total = &total, .values = g, .n = n};
    report.Stream("square_sum" + size, 4.0 * static_cast<double>(n),
                  [&] { CpuKernels().square_sum(square, report.context()); });
  }
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  using namespace angel_ptm;
  BenchRecord record("kernels_bench", &argc, argv);
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  if (threads < 1) {
    std::fprintf(stderr, "kernels_bench: threads must be a number >= 1, got \"%s\"\n", argv[1]);
    return 1;
  }
  Report report(threads, record);
  BenchProducts(report);
  Routing routing;
  BenchRouting(report, routing);
  BenchExpertProducts(report, routing, 2 * kF, kH, "[512,256]");
  BenchExpertProducts(report, routing, kH, kF, "[256,256]");
  BenchExpertRows(report, routing);
  BenchSwiglu(report);
  BenchLoss(report);
  BenchOptimizer(report);
  BenchAttention(report);
  BenchBf16(report);
  return 0;
}
