#include "kernels/ops/add.h"

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

// The smallest share that is worth starting a thread for. Counted in elements, not rows, because rows may be scalars.
constexpr int64_t kAddElementGrain = 1024;

template <typename T>
void AddRow(const AddArgs& args, int64_t row) {
  const int64_t begin = args.column_begin, end = args.column_end;
  const T* __restrict x_W = args.x.as<T>() + row * args.width;
  T* __restrict y_W = args.y.as<T>() + row * args.width;
  if (args.accumulate) {
    for (int64_t i = begin; i < end; ++i) y_W[i] = Rounded<T>(ToFloat(y_W[i]) + ToFloat(x_W[i]));
    return;
  }
  std::fill(y_W, y_W + begin, T{});
  std::copy(x_W + begin, x_W + end, y_W + begin);
  std::fill(y_W + end, y_W + args.width, T{});
}

template <typename T>
void AddRows(const AddArgs& args, const KernelContext& ctx) {
  const int64_t grain = std::max<int64_t>(1, kAddElementGrain / args.width);
  ParallelRanges(ctx.threads, args.rows, grain, [&](int64_t begin, int64_t end, int) {
    if (!args.x) {
      std::fill(args.y.as<T>() + begin * args.width, args.y.as<T>() + end * args.width, T{});
      return;
    }
    for (int64_t row = begin; row < end; ++row) AddRow<T>(args, row);
  });
}

void Run(const AddArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) { AddRows<decltype(element)>(args, ctx); });
}

absl::Status CanRun(const AddArgs& args) {
  return Fp32OrBf16("add", {.same = {{"y", args.y}, NamedOperand::Optional("x", args.x)}});
}

}  // namespace

Kernel<AddArgs> CpuAdd() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
