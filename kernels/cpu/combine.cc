#include "kernels/ops/combine.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kCombineRowGrain = 16;

// Sets drow = weight * dy and returns dot(dy, row), in one pass over dy.
template <typename T>
float ScaleAndDot(T* __restrict drow_H, const T* __restrict dy_H, const T* __restrict row_H, float weight, int64_t h) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < h; ++i) {
    const float dy = ToFloat(dy_H[i]);
    drow_H[i] = Rounded<T>(weight * dy);
    dot += dy * ToFloat(row_H[i]);
  }
  return dot;
}

template <typename T>
void CombineToken(const CombineArgs& args, int64_t token) {
  const int64_t h = args.h;
  const float* weights_K = args.weights.as<float>() + token * args.k;
  const int32_t* row_K = args.row_of_pair + token * args.k;
  float sum[kSumColumns];
  for (int64_t at = 0; at < h; at += kSumColumns) {
    const int64_t n = std::min(kSumColumns, h - at);
    if (args.base) {
      const T* __restrict base = args.base.as<T>() + token * h + at;
      for (int64_t i = 0; i < n; ++i) sum[i] = ToFloat(base[i]);
    } else {
      std::fill_n(sum, n, 0.0f);
    }
    for (int64_t c = 0; c < args.k; ++c) {
      if (row_K[c] < 0) continue;
      const float weight = weights_K[c];
      const T* __restrict row = args.rows.as<T>() + row_K[c] * h + at;
      for (int64_t i = 0; i < n; ++i) sum[i] += weight * ToFloat(row[i]);
    }
    T* __restrict y = args.y.as<T>() + token * h + at;
    for (int64_t i = 0; i < n; ++i) y[i] = Rounded<T>(sum[i]);
  }
}

// Iterates over the rows. A (token, choice) pair has one row, or none if its expert is not laid out; the dweights
// element of a pair without a row keeps the zero it gets at the beginning.
template <typename T>
void Backward(const CombineGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const int64_t active_rows = *args.active_blocks * args.block_rows;
  std::fill_n(args.dweights.as<float>(), args.t * args.k, 0.0f);
  ParallelRanges(ctx.threads, active_rows, kCombineRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      T* drow_H = args.drows.as<T>() + r * h;
      const int32_t pair = args.pair_of_row[r];
      if (pair < 0) {
        std::fill_n(drow_H, h, T{});
        continue;
      }
      args.dweights.as<float>()[pair] = ScaleAndDot(drow_H, args.dy.as<T>() + pair / args.k * h,
                                                    args.rows.as<T>() + r * h, args.weights.as<float>()[pair], h);
    }
  });
}

void Run(const CombineArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, kCombineRowGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) CombineToken<decltype(element)>(args, t);
    });
  });
}

void Run(const CombineGradArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) { Backward<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const CombineArgs& args) {
  return Fp32OrBf16("combine", {.same = {{"y", args.y}, NamedOperand::Optional("base", args.base), {"rows", args.rows}},
                                .fp32 = {{"weights", args.weights}}});
}

absl::Status CanRun(const CombineGradArgs& args) {
  return Fp32OrBf16("combine_grad", {.same = {{"drows", args.drows}, {"dy", args.dy}, {"rows", args.rows}},
                                     .fp32 = {{"dweights", args.dweights}, {"weights", args.weights}}});
}

}  // namespace

Kernel<CombineArgs> CpuCombine() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<CombineGradArgs> CpuCombineGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
