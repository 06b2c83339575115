#include "angel_ptm/train/matrix_peak.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {

namespace {

double Measure(const KernelTable& kernels, int threads) {
  constexpr int64_t kSize = 1024;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  auto arena = MakeHostArena(TierKind::kDevice, 3 * kSize * kSize * 4);
  if (!arena.ok()) return 0;
  std::byte* data = (*arena)->data();
  const MatmulArgs args{.c = {data},
                        .a = {data + kSize * kSize * 4},
                        .b = {data + 2 * kSize * kSize * 4},
                        .m = kSize,
                        .n = kSize,
                        .k = kSize,
                        .trans_b = true};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(250);
  double best = 0;
  while (Clock::now() < end) {
    const Clock::time_point begin = Clock::now();
    kernels.matmul(args, {.threads = threads});
    best = std::max(best, kFlops / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace

double MeasureMatrixPeak(const KernelTable& kernels, int threads) {
  // OpenMP keeps a team of threads for every thread that has asked for one, until that thread ends: this one must not
  // leave its team beside the compute lane's for the whole run.
  double peak = 0;
  std::jthread([&] { peak = Measure(kernels, threads); }).join();
  return peak;
}

}  // namespace angel_ptm
