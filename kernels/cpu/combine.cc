#include "kernels/ops/combine.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRowGrain = 16;

// drow = weight * dy and the return value is dot(dy, row), in one pass over dy.
float ScaleAndDot(float* __restrict drow_H, const float* __restrict dy_H, const float* __restrict row_H, float weight,
                  int64_t h) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < h; ++i) {
    drow_H[i] = weight * dy_H[i];
    dot += dy_H[i] * row_H[i];
  }
  return dot;
}

void Run(const CombineArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  ParallelRanges(ctx.threads, args.t, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* __restrict y_H = args.y.as<float>() + t * h;
      const float* __restrict base_H = args.base.as<float>() + t * h;
      for (int64_t c = 0; c < args.k; ++c) {
        const float weight = args.weights.as<float>()[t * args.k + c];
        const float* __restrict row_H = args.rows.as<float>() + args.row_of_pair[t * args.k + c] * h;
        const float* sum_H = c == 0 ? base_H : y_H;
        for (int64_t i = 0; i < h; ++i) y_H[i] = sum_H[i] + weight * row_H[i];
      }
    }
  });
}

// Runs over the rows: each (token, choice) pair has exactly one, so this also covers every dweights element once.
void Run(const CombineGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const int64_t active_rows = *args.active_blocks * args.block_rows;
  ParallelRanges(ctx.threads, active_rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* drow_H = args.drows.as<float>() + r * h;
      const int32_t pair = args.pair_of_row[r];
      if (pair < 0) {
        std::fill_n(drow_H, h, 0.0f);
        continue;
      }
      args.dweights.as<float>()[pair] = ScaleAndDot(drow_H, args.dy.as<float>() + pair / args.k * h,
                                                    args.rows.as<float>() + r * h, args.weights.as<float>()[pair], h);
    }
  });
}

absl::Status CanRun(const CombineArgs& args) {
  return Fp32Only("combine", {args.y.dtype, args.base.dtype, args.rows.dtype, args.weights.dtype});
}

absl::Status CanRun(const CombineGradArgs& args) {
  return Fp32Only("combine_grad",
                  {args.drows.dtype, args.dweights.dtype, args.dy.dtype, args.rows.dtype, args.weights.dtype});
}

}  // namespace

Kernel<CombineArgs> CpuCombine() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<CombineGradArgs> CpuCombineGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
