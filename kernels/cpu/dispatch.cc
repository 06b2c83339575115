#include "kernels/ops/dispatch.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kDispatchRowGrain = 16;

template <typename T>
void Forward(const DispatchArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const int64_t active_rows = *args.active_blocks * args.block_rows;
  ParallelRanges(ctx.threads, active_rows, kDispatchRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      T* row_H = args.rows.as<T>() + r * h;
      const int32_t pair = args.pair_of_row[r];
      if (pair < 0) {
        std::fill_n(row_H, h, T{});
      } else {
        std::copy_n(args.x.as<T>() + pair / args.k * h, h, row_H);
      }
    }
  });
}

// The sum of one token's rows, in the order of its choices. It starts from the first row, because 0 + x would lose the
// sign of a zero.
template <typename T>
void SumRows(const DispatchGradArgs& args, int64_t token) {
  const T* __restrict drows_RH = args.drows.as<T>();
  const int32_t* row_K = args.row_of_pair + token * args.k;
  const int64_t first = std::find_if(row_K, row_K + args.k, [](int32_t row) { return row >= 0; }) - row_K;
  if (first == args.k) {
    if (!args.accumulate) std::fill_n(args.dx.as<T>() + token * args.h, args.h, T{});
    return;
  }
  float sum[kSumColumns];
  for (int64_t at = 0; at < args.h; at += kSumColumns) {
    const int64_t n = std::min(kSumColumns, args.h - at);
    T* __restrict dx = args.dx.as<T>() + token * args.h + at;
    const T* start = args.accumulate ? dx : drows_RH + row_K[first] * args.h + at;
    for (int64_t i = 0; i < n; ++i) sum[i] = ToFloat(start[i]);
    for (int64_t c = args.accumulate ? first : first + 1; c < args.k; ++c) {
      if (row_K[c] < 0) continue;
      const T* __restrict drow = drows_RH + row_K[c] * args.h + at;
      for (int64_t i = 0; i < n; ++i) sum[i] += ToFloat(drow[i]);
    }
    for (int64_t i = 0; i < n; ++i) dx[i] = Rounded<T>(sum[i]);
  }
}

void Run(const DispatchArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const DispatchGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dx.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, kDispatchRowGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) SumRows<decltype(element)>(args, t);
    });
  });
}

absl::Status CanRun(const DispatchArgs& args) {
  return Fp32OrBf16("dispatch", {.same = {{"rows", args.rows}, {"x", args.x}}});
}

absl::Status CanRun(const DispatchGradArgs& args) {
  return Fp32OrBf16("dispatch_grad", {.same = {{"dx", args.dx}, {"drows", args.drows}}});
}

}  // namespace

Kernel<DispatchArgs> CpuDispatch() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<DispatchGradArgs> CpuDispatchGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
