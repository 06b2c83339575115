#include "kernels/cpu/gemm.h"

#include <cblas.h>
#include <omp.h>

#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTileGrain = 16;  // tile borders: a multiple of every micro-kernel's register tile

// The number of tile rows: the divisor r of `threads` with the smallest tile perimeter m / r + n / (threads / r), which
// is the number of elements that a tile packs and writes per unit of k.
int64_t GridRows(int64_t threads, int64_t m, int64_t n) {
  int64_t best = 1;
  for (int64_t rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    if (m * (threads / rows) + n * rows < m * (threads / best) + n * best) best = rows;
  }
  return best;
}

}  // namespace

void SerialGemm(const Gemm& g) {
  if (IsFewRows(g)) return MultiplyFewRows(g);
  // Sets a thread-local OpenMP variable only; OpenBLAS then takes its single-thread path.
  omp_set_num_threads(1);
  const auto dim = [](int64_t size) { return static_cast<blasint>(size); };
  cblas_sgemm(CblasRowMajor, g.trans_a ? CblasTrans : CblasNoTrans, g.trans_b ? CblasTrans : CblasNoTrans, dim(g.m),
              dim(g.n), dim(g.k), 1.0f, g.a, dim(g.lda), g.b, dim(g.ldb), g.accumulate ? 1.0f : 0.0f, g.c, dim(g.ldc));
}

void ParallelGemm(int threads, const Gemm& g) {
  if (threads <= 1) {
    SerialGemm(g);
    return;
  }
  const int64_t rows = GridRows(threads, g.m, g.n), columns = threads / rows;
  ParallelFor(threads, rows * columns, [&](int64_t tile) {
    const PartRange r = PartOf(g.m, kTileGrain, rows, tile / columns);
    const PartRange c = PartOf(g.n, kTileGrain, columns, tile % columns);
    if (r.begin == r.end || c.begin == c.end) return;
    Gemm part = g;
    part.m = r.end - r.begin;
    part.n = c.end - c.begin;
    part.a += r.begin * (g.trans_a ? 1 : g.lda);
    part.b += c.begin * (g.trans_b ? g.ldb : 1);
    part.c += r.begin * g.ldc + c.begin;
    SerialGemm(part);
  });
}

}  // namespace angel_ptm
