#include "kernels/ops/add.h"

#include <algorithm>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

// A thread's share is worth its start: elements, not rows, since rows may be scalars.
constexpr int64_t kElementGrain = 1024;

void AddRow(const AddArgs& args, int64_t row) {
  const int64_t begin = args.column_begin, end = args.column_end;
  const float* __restrict x_W = args.x.as<float>() + row * args.width;
  float* __restrict y_W = args.y.as<float>() + row * args.width;
  if (args.accumulate) {
    for (int64_t i = begin; i < end; ++i) y_W[i] += x_W[i];
    return;
  }
  std::fill(y_W, y_W + begin, 0.0f);
  std::copy(x_W + begin, x_W + end, y_W + begin);
  std::fill(y_W + end, y_W + args.width, 0.0f);
}

void Run(const AddArgs& args, const KernelContext& ctx) {
  const int64_t grain = std::max<int64_t>(1, kElementGrain / args.width);
  ParallelRanges(ctx.threads, args.rows, grain, [&](int64_t begin, int64_t end, int) {
    if (!args.x) {
      std::fill(args.y.as<float>() + begin * args.width, args.y.as<float>() + end * args.width, 0.0f);
      return;
    }
    for (int64_t row = begin; row < end; ++row) AddRow(args, row);
  });
}

absl::Status CanRun(const AddArgs& args) { return Fp32Only("add", {args.y.dtype, args.x.dtype}); }

}  // namespace

Kernel<AddArgs> CpuAdd() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
