#include "kernels/ops/cast.h"

#include "angel_ptm/base/bfloat16.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

// The smallest share that is worth starting a thread for.
constexpr int64_t kCastElementGrain = 4096;

void Run(const CastArgs& args, const KernelContext& ctx) {
  ParallelRanges(ctx.threads, args.n, kCastElementGrain, [&](int64_t begin, int64_t end, int) {
    const size_t count = static_cast<size_t>(end - begin);
    if (args.y.dtype == DType::kBFloat16) {
      Round({args.y.as<BFloat16>() + begin, count}, {args.x.as<float>() + begin, count});
    } else {
      Widen({args.y.as<float>() + begin, count}, {args.x.as<BFloat16>() + begin, count});
    }
  });
}

absl::Status CanRun(const CastArgs& args) {
  const bool rounds = args.y.dtype == DType::kBFloat16 && args.x.dtype == DType::kFloat32;
  const bool widens = args.y.dtype == DType::kFloat32 && args.x.dtype == DType::kBFloat16;
  if (rounds || widens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cpu backend: cast takes F32 to BF16 or BF16 to F32, got ",
                                                 Name(args.x.dtype), " to ", Name(args.y.dtype)));
}

}  // namespace

Kernel<CastArgs> CpuCast() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
