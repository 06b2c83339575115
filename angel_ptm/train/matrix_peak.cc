#include "angel_ptm/train/matrix_peak.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {

namespace {

constexpr int64_t kSize = 1024;

// FLOP/s of one product of size^3, whose operands lie at `data`.
double RateOf(const KernelTable& kernels, int threads, std::byte* data, int64_t size) {
  const int64_t bytes = size * size * 4;
  const MatmulArgs args{
      .c = {data}, .a = {data + bytes}, .b = {data + 2 * bytes}, .m = size, .n = size, .k = size, .trans_b = true};
  const auto begin = std::chrono::steady_clock::now();
  kernels.matmul(args, {.threads = threads});
  return 2.0 * static_cast<double>(size * size * size) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double Measure(const KernelTable& kernels, int threads) {
  auto arena = MakeHostArena(TierKind::kDevice, 3 * kSize * kSize * 4);
  if (!arena.ok()) return 0;
  std::byte* const data = (*arena)->data();
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(250);
  // On an emulated processor one large product takes half a minute: what one thread does with small ones, the best of a
  // few because others may have its core, tells that.
  constexpr double kSlow = 0.5e9;
  double best = 0;
  for (int i = 0; i < 5; ++i) best = std::max(best, RateOf(kernels, 1, data, kSize / 8));
  if (best < kSlow) return best * threads;
  for (best = 0; Clock::now() < end;) best = std::max(best, RateOf(kernels, threads, data, kSize));
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
