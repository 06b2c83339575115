#include "kernels/ops/concat.h"

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops/split.h"

namespace angel_ptm {
namespace {

constexpr int64_t kConcatElementGrain = 1024;

// Calls fn(row) for all rows; each thread's share is large enough to be worth starting a thread for.
template <typename Args, typename Fn>
void ForRows(const Args& args, const KernelContext& ctx, const Fn& fn) {
  const int64_t grain = std::max<int64_t>(1, kConcatElementGrain / (args.a_width + args.b_width));
  ParallelRanges(ctx.threads, args.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) fn(row);
  });
}

void Run(const ConcatArgs& args, const KernelContext& ctx) {
  WithElements(args.y.dtype, [&](auto element) {
    using T = decltype(element);
    ForRows(args, ctx, [&](int64_t row) {
      T* y = args.y.as<T>() + row * (args.a_width + args.b_width);
      std::copy_n(args.a.as<T>() + row * args.a_width, args.a_width, y);
      std::copy_n(args.b.as<T>() + row * args.b_width, args.b_width, y + args.a_width);
    });
  });
}

void Run(const SplitArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    ForRows(args, ctx, [&](int64_t row) {
      const T* x = args.x.as<T>() + row * (args.a_width + args.b_width);
      if (args.a) std::copy_n(x, args.a_width, args.a.as<T>() + row * args.a_width);
      if (args.b) std::copy_n(x + args.a_width, args.b_width, args.b.as<T>() + row * args.b_width);
    });
  });
}

absl::Status CanRun(const ConcatArgs& args) {
  return Fp32OrBf16("concat", {.same = {{"y", args.y}, {"a", args.a}, {"b", args.b}}});
}

absl::Status CanRun(const SplitArgs& args) {
  return Fp32OrBf16(
      "split", {.same = {{"x", args.x}, NamedOperand::Optional("a", args.a), NamedOperand::Optional("b", args.b)}});
}

}  // namespace

Kernel<ConcatArgs> CpuConcat() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<SplitArgs> CpuSplit() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
