#include "angel_ptm/train/matrix_peak.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {

namespace {

double Measure(const KernelTable& kernels, DType type, int threads) {
  constexpr int64_t kSize = 1024;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  const int64_t matrix_bytes = kSize * kSize * SizeOf(type);
  MatmulArgs args{.c = {nullptr, type},
                  .a = {nullptr, type},
                  .b = {nullptr, type},
                  .m = kSize,
                  .n = kSize,
                  .k = kSize,
                  .trans_b = true};
  const int64_t workspace_bytes = kernels.matmul.workspace_bytes(args, {.threads = threads});
  auto arena = MakeHostArena(TierKind::kDevice, 3 * matrix_bytes + workspace_bytes);
  if (!arena.ok() || !kernels.matmul.can_run(args).ok()) return 0;
  std::byte* data = (*arena)->data();
  args.c.data = data;
  args.a.data = data + matrix_bytes;
  args.b.data = data + 2 * matrix_bytes;
  const KernelContext context{
      .threads = threads, .workspace = data + 3 * matrix_bytes, .workspace_bytes = workspace_bytes};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(250);
  double best = 0;
  while (Clock::now() < end) {
    const Clock::time_point begin = Clock::now();
    kernels.matmul(args, context);
    best = std::max(best, kFlops / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace

double MeasureMatrixPeak(const KernelTable& kernels, DType type, int threads) {
  // OpenMP keeps a team of threads for every thread that has asked for one, until that thread ends: this one must not
  // leave its team beside the compute lane's for the whole run.
  double peak = 0;
  std::jthread([&] { peak = Measure(kernels, type, threads); }).join();
  return peak;
}

}  // namespace angel_ptm
