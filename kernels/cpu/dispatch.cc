#include "kernels/ops/dispatch.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRowGrain = 16;

void Run(const DispatchArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const int64_t active_rows = *args.active_blocks * args.block_rows;
  ParallelRanges(ctx.threads, active_rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row_H = args.rows.as<float>() + r * h;
      const int32_t pair = args.pair_of_row[r];
      if (pair < 0) {
        std::fill_n(row_H, h, 0.0f);
      } else {
        std::copy_n(args.x.as<float>() + pair / args.k * h, h, row_H);
      }
    }
  });
}

void Run(const DispatchGradArgs& args, const KernelContext& ctx) {
  const int64_t h = args.h;
  const float* drows_RH = args.drows.as<float>();
  ParallelRanges(ctx.threads, args.t, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* __restrict dx_H = args.dx.as<float>() + t * h;
      const int32_t* row_K = args.row_of_pair + t * args.k;
      if (!args.accumulate) std::copy_n(drows_RH + row_K[0] * h, h, dx_H);
      for (int64_t c = args.accumulate ? 0 : 1; c < args.k; ++c) {
        const float* __restrict drow_H = drows_RH + row_K[c] * h;
        for (int64_t i = 0; i < h; ++i) dx_H[i] += drow_H[i];
      }
    }
  });
}

absl::Status CanRun(const DispatchArgs& args) { return Fp32Only("dispatch", {args.rows.dtype, args.x.dtype}); }

absl::Status CanRun(const DispatchGradArgs& args) {
  return Fp32Only("dispatch_grad", {args.dx.dtype, args.drows.dtype});
}

}  // namespace

Kernel<DispatchArgs> CpuDispatch() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<DispatchGradArgs> CpuDispatchGrad() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
