#include "kernels/ops/add_rows.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kAddRowsElementGrain = 1024;
constexpr int64_t kAddRowsColumnGrain = 64;

template <typename T>
void Forward(const AddRowsArgs& args, int64_t token) {
  const int64_t h = args.h;
  const T* __restrict x_H = args.x.as<T>() + token * h;
  const T* __restrict row_H = args.rows.as<T>() + token % args.p * h;
  T* __restrict y_H = args.y.as<T>() + token * h;
  for (int64_t i = 0; i < h; ++i) y_H[i] = Rounded<T>(ToFloat(x_H[i]) + ToFloat(row_H[i]));
}

void Run(const AddRowsArgs& args, const KernelContext& ctx) {
  const int64_t grain = std::max<int64_t>(1, kAddRowsElementGrain / args.h);
  WithElements(args.x.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) Forward<decltype(element)>(args, token);
    });
  });
}

// Sums the rows of dy, viewed as a matrix [T/P, P*H], in blocks of rows. Workspace: TokenBlocks(T/P) * P * H fp32.
void Run(const AddRowsGradArgs& args, const KernelContext& ctx) {
  const int64_t rows = args.t / args.p, width = args.p * args.h, block = TokenBlock(rows);
  float* partial_NW = reinterpret_cast<float*>(ctx.workspace);
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    ParallelRanges(ctx.threads, width, kAddRowsColumnGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t n = 0; n < TokenBlocks(rows); ++n) {
        float* __restrict sum = partial_NW + n * width;
        std::fill(sum + begin, sum + end, 0.0f);
        for (int64_t row = n * block; row < std::min(rows, (n + 1) * block); ++row) {
          const T* __restrict dy = args.dy.as<T>() + row * width;
          for (int64_t i = begin; i < end; ++i) sum[i] += ToFloat(dy[i]);
        }
      }
    });
  });
  WithElements(args.drows.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, width, kAddRowsColumnGrain, [&](int64_t begin, int64_t end, int) {
      AddTokenBlocks(args.drows.as<decltype(element)>(), partial_NW, TokenBlocks(rows), width, begin, end,
                     args.accumulate);
    });
  });
}

int64_t WorkspaceBytes(const AddRowsGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t / args.p) * args.p * args.h);
}

absl::Status CanRun(const AddRowsArgs& args) {
  return Fp32OrBf16("add_rows", {.same = {{"x", args.x}, {"y", args.y}, {"rows", args.rows}}});
}

absl::Status CanRun(const AddRowsGradArgs& args) {
  return Fp32OrBf16("add_rows_grad", {.same = {{"dy", args.dy}}, .same_or_fp32 = {{"drows", args.drows}}});
}

}  // namespace

Kernel<AddRowsArgs> CpuAddRows() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<AddRowsGradArgs> CpuAddRowsGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
