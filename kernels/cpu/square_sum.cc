#include "kernels/ops/square_sum.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int kLanes = 16;
constexpr int kPartsMax = 64;
constexpr int64_t kGroupGrain = 64;  // 64 KiB of values

// The sum of squares of one group in double: element i goes to lane i % kLanes, then lanes are folded in halves.
// Products of two floats are exact in double, so only the additions round, in the same order on every instruction set.
template <typename T>
double GroupSquareSum(const T* __restrict values) {
  double lanes[kLanes] = {};
  for (int64_t i = 0; i < kSquareSumGroup; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(ToFloat(values[i + lane]));
      lanes[lane] += value * value;
    }
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void Run(const SquareSumArgs& args, const KernelContext& ctx) {
  FixedPointSum partial[kPartsMax];
  WithElements(args.values.dtype, [&](auto element) {
    const auto* const values = args.values.as<decltype(element)>();
    ParallelRanges(std::min(ctx.threads, kPartsMax), args.n / kSquareSumGroup, kGroupGrain,
                   [&](int64_t begin, int64_t end, int part) {
                     FixedPointSum sum;
                     for (int64_t g = begin; g < end; ++g) sum.Add(GroupSquareSum(values + g * kSquareSumGroup));
                     partial[part] = sum;
                   });
  });
  for (const FixedPointSum& sum : partial) args.total->Add(sum);
}

absl::Status CanRun(const SquareSumArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("square_sum", {.same = {{"values", args.values}}, .same_or_fp32 = {}, .fp32 = {}}));
  if (args.n % kSquareSumGroup != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: square_sum takes a multiple of ", kSquareSumGroup, " elements, got ", args.n));
  }
  return absl::OkStatus();
}

}  // namespace

Kernel<SquareSumArgs> CpuSquareSum() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
