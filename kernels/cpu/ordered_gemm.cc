// Goto & van de Geijn 2008: a block of op(a) is packed over a depth of k, stays in L2 and is multiplied with one panel
// of b after the other; each tile of c is computed in registers. Packed operands lie on the stack. Chains continue
// through c from one depth to the next, so borders of blocks, panels and tiles do not affect the bits.
#include "kernels/cpu/ordered_gemm.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace angel_ptm {
namespace {

// The register tile: kTileRows x kTileColumns accumulators, two vectors of b and one of a fill the register file.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 14, kBlockPanels = 25;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTileRows = 6, kBlockPanels = 24;
#else
constexpr int kLanes = 4, kTileRows = 4, kBlockPanels = 24;
#endif
constexpr int kVectors = 2, kTileColumns = kVectors * kLanes;
constexpr int64_t kPanelDepth = 512;
constexpr int64_t kBlockRows = int64_t{kBlockPanels} * kTileRows;
constexpr int64_t kInPlaceStrideMax =
    512;  // largest stride of rows that are read in place; with larger strides rows compete for too few cache sets

using Vector = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

Vector Load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
void Store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// Cache lines that a tile prefetches as it goes, one per k; they are scattered and would otherwise arrive too late.
// First `lines` of them `stride` bytes apart, then as many starting 64 bytes further, and so on, `steps` in all.
// Addresses are integers because they may lie past the end of an operand, where prefetching does nothing.
struct Prefetch {
  uintptr_t begin = 0;
  int64_t stride = 0, lines = kPanelDepth, steps = 0;
};

struct Tile {
  const float* a;
  int64_t a_row, a_k;
  const float* b;  // rows of kTileColumns
  int64_t ldb, depth;
  float* c;
  int64_t ldc;
  bool continues;       // the chains start from the values in c
  Prefetch next_b;      // the panel to be packed next
  const float* next_c;  // c of the next tile
};

template <int kRows>
void RunTile(const Tile& t) {
  const float *a = t.a, *b = t.b;
  const int64_t a_row = t.a_row, a_k = t.a_k, ldb = t.ldb, ldc = t.ldc;
  Vector sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = t.continues ? Load(t.c + r * ldc + v * kLanes) : Vector{};
  }
  // Both tiles of c are prefetched last: earlier, they would have left L1 by the time they are used.
  const int64_t c_lines = std::min<int64_t>(t.depth / 3, kRows * std::max<int64_t>(1, kTileColumns / 16));
  Prefetch prefetches[] = {t.next_b,
                           {reinterpret_cast<uintptr_t>(t.c), ldc * 4, kRows, c_lines},
                           {reinterpret_cast<uintptr_t>(t.next_c), ldc * 4, kRows, c_lines}};
  prefetches[0].steps = t.depth - 2 * c_lines;
  for (Prefetch& p : prefetches) {
    for (int64_t done = 0; done < p.steps; done += p.lines, p.begin += 64) {
      const int64_t steps = std::min(p.lines, p.steps - done);
      uintptr_t line = p.begin;
      for (int64_t k = 0; k < steps; ++k, a += a_k, b += ldb, line += static_cast<uintptr_t>(p.stride)) {
        __builtin_prefetch(reinterpret_cast<const void*>(line));
        const Vector b0 = Load(b), b1 = Load(b + kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const float a_r = a[r * a_row];
          sum[r][0] += a_r * b0;
          sum[r][1] += a_r * b1;
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Store(t.c + r * ldc + v * kLanes, sum[r][v]);
  }
}

using RunTileFunction = void (*)(const Tile&);
template <int... kIndex>
constexpr std::array<RunTileFunction, sizeof...(kIndex)> TileFunctions(std::integer_sequence<int, kIndex...>) {
  return {&RunTile<kIndex + 1>...};
}
constexpr auto kRunTile = TileFunctions(std::make_integer_sequence<int, kTileRows>());  // by rows - 1

// A tile with fewer than kTileColumns columns goes through a full-width copy of c.
void RunNarrowTile(const Tile& t, int64_t rows, int64_t columns) {
  float copy[kTileRows * kTileColumns] = {};
  Tile wide = t;
  wide.c = copy;
  wide.ldc = kTileColumns;
  for (int64_t r = 0; t.continues && r < rows; ++r) std::copy_n(t.c + r * t.ldc, columns, copy + r * kTileColumns);
  kRunTile[rows - 1](wide);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(copy + r * kTileColumns, columns, t.c + r * t.ldc);
}

// A matrix of lines (rows of op(a), columns of b) along k. One of the strides, in elements, is 1.
struct Lines {
  const float* data;
  int64_t line, k;
  Lines At(int64_t first_line, int64_t first_k) const { return {data + first_line * line + first_k * k, line, k}; }
  // The address of an element that may not exist.
  uintptr_t Address(int64_t at_line, int64_t at_k) const {
    return reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(at_line * line + at_k * k) * sizeof(float);
  }
};

// Exchanges the off-diagonal kDistance-sized squares of the kLanes x kLanes matrix in rows[]; doing so for all
// distances in turn transposes it. Must be inlined: otherwise the matrix would go through memory.
template <int kDistance, int... kLane>
[[gnu::always_inline]] inline void ExchangeSquares(Vector (&rows)[kLanes], std::integer_sequence<int, kLane...>) {
  for (int i = 0; i < kLanes; ++i) {
    if (i & kDistance) continue;
    const Vector low = rows[i], high = rows[i + kDistance];
    rows[i] = __builtin_shufflevector(low, high, ((kLane & kDistance) ? kLanes + kLane - kDistance : kLane)...);
    rows[i + kDistance] =
        __builtin_shufflevector(low, high, ((kLane & kDistance) ? kLanes + kLane : kLane + kDistance)...);
  }
}

[[gnu::always_inline]] inline void Transpose(Vector (&rows)[kLanes]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  if constexpr (kLanes > 8) ExchangeSquares<kLanes / 2>(rows, lanes);
  if constexpr (kLanes > 4) ExchangeSquares<4>(rows, lanes);
  ExchangeSquares<2>(rows, lanes);
  ExchangeSquares<1>(rows, lanes);
}

// panel[depth, kWidth] = the first of x's `lines` lines; zero where there is no line. Writes up to kLanes elements past
// the end of a panel whose width is not a multiple of kLanes.
template <int kWidth>
void PackAlong(float* panel, const Lines& x, int64_t lines, int64_t depth) {
  static_assert(kWidth <= kLanes || kWidth % kLanes == 0);
  for (int64_t first = 0; first < kWidth; first += kLanes) {
    const float* const from = x.data + first * x.line;
    const int64_t width = std::min<int64_t>(kLanes, kWidth - first), there = std::min(width, lines - first);
    int64_t k = 0;
    for (; there > 0 && k + kLanes <= depth; k += kLanes) {
      Vector square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = i < there ? Load(from + i * x.line + k) : Vector{};
      Transpose(square);
      for (int i = 0; i < kLanes; ++i) Store(panel + (k + i) * kWidth + first, square[i]);
    }
    for (; k < depth; ++k) {
      for (int64_t i = 0; i < width; ++i) panel[k * kWidth + first + i] = i < there ? from[i * x.line + k] : 0.0f;
    }
  }
}

template <int kWidth>
void PackAcross(float* panel, const Lines& x, int64_t lines, int64_t depth) {
  const float* from = x.data;
  for (int64_t k = 0; k < depth; ++k, from += x.k, panel += kWidth) {
    if (lines >= kWidth) {
      std::memcpy(panel, from, kWidth * sizeof(float));
    } else {
      for (int64_t i = 0; i < kWidth; ++i) panel[i] = i < lines ? from[i] : 0.0f;
    }
  }
}

template <int kWidth>
void Pack(float* panel, const Lines& x, int64_t lines, int64_t depth) {
  if (x.k == 1) {
    PackAlong<kWidth>(panel, x, lines, depth);
  } else {
    PackAcross<kWidth>(panel, x, lines, depth);
  }
}

struct Operands {
  Lines a, b;
  explicit Operands(const OrderedGemmArgs& g)
      : a{g.a, g.a_row_stride, g.a_k_stride}, b{g.b, g.trans_b ? g.ldb : 1, g.trans_b ? 1 : g.ldb} {}
};

// Rows of op(a), in panels of nearly the same height.
struct Block {
  int64_t first, rows, panels;
  int64_t RowOf(int64_t panel) const { return rows * panel / panels; }
};

// Multiplies one block over k in [k, k + depth).
void RunBlock(const OrderedGemmArgs& g, const Operands& x, const Block& block, int64_t k, int64_t depth,
              float* packed_a) {
  alignas(64) float packed_b[kPanelDepth * kTileColumns];
  const bool a_in_place = x.a.k == 1 && x.a.line <= kInPlaceStrideMax && g.n <= kInPlaceStrideMax;
  for (int64_t panel = 0; !a_in_place && panel < block.panels; ++panel) {
    const int64_t row = block.RowOf(panel), rows = block.RowOf(panel + 1) - row;
    // Copying whole panels is faster, and rows that belong to the next panel exist.
    const int64_t there = x.a.k == 1 ? rows : g.m - block.first - row;
    Pack<kTileRows>(packed_a + panel * kTileRows * depth, x.a.At(block.first + row, k), there, depth);
  }
  for (int64_t j = 0; j < g.n; j += kTileColumns) {
    const int64_t columns = std::min<int64_t>(kTileColumns, g.n - j);
    const bool b_in_place = !g.trans_b && columns == kTileColumns && g.ldb < kInPlaceStrideMax;
    if (!b_in_place) Pack<kTileColumns>(packed_b, x.b.At(j, k), columns, depth);
    for (int64_t panel = 0; panel < block.panels; ++panel) {
      const int64_t row = block.RowOf(panel), rows = block.RowOf(panel + 1) - row;
      float* const c = g.c + (block.first + row) * g.ldc + j;
      Tile tile = {.a = a_in_place ? x.a.At(block.first + row, k).data : packed_a + panel * kTileRows * depth,
                   .a_row = a_in_place ? x.a.line : 1,
                   .a_k = a_in_place ? 1 : kTileRows,
                   .b = b_in_place ? x.b.At(j, k).data : packed_b,
                   .ldb = b_in_place ? g.ldb : kTileColumns,
                   .depth = depth,
                   .c = c,
                   .ldc = g.ldc,
                   .continues = g.accumulate || k > 0,
                   .next_b = {.begin = reinterpret_cast<uintptr_t>(c)},
                   .next_c = c + rows * g.ldc};
      // The first two tiles prefetch half of the next panel of b each.
      if (panel < 2) {
        const int64_t half = g.trans_b ? panel * (depth / 32) * 16 : panel * 16;
        tile.next_b = {.begin = x.b.Address(j + kTileColumns, k) + static_cast<uintptr_t>(half) * 4,
                       .stride = g.ldb * 4,
                       .lines = g.trans_b ? kTileColumns : kPanelDepth};
      }
      if (columns == kTileColumns) {
        kRunTile[rows - 1](tile);
      } else {
        RunNarrowTile(tile, rows, columns);
      }
    }
  }
}

}  // namespace

void OrderedGemm(const OrderedGemmArgs& g) {
  if (g.m == 0) return;
  alignas(64) float packed_a[kBlockRows * kPanelDepth + kLanes];
  const Operands x(g);
  const int64_t blocks = (g.m + kBlockRows - 1) / kBlockRows;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t first = g.m * i / blocks, rows = g.m * (i + 1) / blocks - first;
    const Block block = {first, rows, (rows + kTileRows - 1) / kTileRows};
    // At least one iteration, so that c is written even if k is 0.
    for (int64_t k = 0; k == 0 || k < g.k; k += kPanelDepth) {
      RunBlock(g, x, block, k, std::min(kPanelDepth, g.k - k), packed_a);
    }
  }
}

}  // namespace angel_ptm
