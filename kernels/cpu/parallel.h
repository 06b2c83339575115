// Work sharing inside one kernel call. Partitions are static functions of (threads, n): nothing depends on timing. With
// threads == 1 the body runs inline on the calling thread and OpenMP is not entered, so several ranks (std::threads) of
// one process may run kernels concurrently without sharing anything.
#ifndef ANGEL_PTM_KERNELS_CPU_PARALLEL_H_
#define ANGEL_PTM_KERNELS_CPU_PARALLEL_H_

#include <algorithm>
#include <cstdint>

namespace angel_ptm {

// The range [begin, end) of part `part` of `parts` when n items are cut into pieces whose sizes differ by at most one
// `grain`. Borders are multiples of grain, except that the last is n.
struct PartRange {
  int64_t begin = 0, end = 0;
};
inline PartRange PartOf(int64_t n, int64_t grain, int64_t parts, int64_t part) {
  const int64_t grains = (n + grain - 1) / grain;
  return {std::min(n, grains * part / parts * grain), std::min(n, grains * (part + 1) / parts * grain)};
}

// Calls body(context, part) once for every part < parts, on an OpenMP team of `parts` threads; returns when all are
// done.
void RunOnTeam(int parts, void (*body)(const void* context, int part), const void* context);

// Calls fn(begin, end, part) once for each part of [0, n), part < min(threads, pieces of `grain`). Parts are not empty.
template <typename Fn>
void ParallelRanges(int threads, int64_t n, int64_t grain, const Fn& fn) {
  if (n <= 0) return;
  const int parts = static_cast<int>(std::min<int64_t>(threads, (n + grain - 1) / grain));
  if (parts <= 1) {
    fn(int64_t{0}, n, 0);
    return;
  }
  const auto run_part = [&](int part) {
    const PartRange range = PartOf(n, grain, parts, part);
    fn(range.begin, range.end, part);
  };
  using RunPart = decltype(run_part);
  RunOnTeam(
      parts, [](const void* context, int part) { (*static_cast<const RunPart*>(context))(part); }, &run_part);
}

// Calls fn(i) for i in [0, n): thread p of the team runs the p-th consecutive share.
template <typename Fn>
void ParallelFor(int threads, int64_t n, const Fn& fn) {
  ParallelRanges(threads, n, 1, [&fn](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) fn(i);
  });
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_PARALLEL_H_
