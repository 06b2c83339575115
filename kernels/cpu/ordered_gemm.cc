// Goto & van de Geijn 2008 reduced to what small k and many small matrices need: a register tile of c, a panel of b
// that is packed only where it must be transposed or padded, and a read in place.
#include "kernels/cpu/ordered_gemm.h"

#include <algorithm>
#include <array>
#include <utility>

namespace angel_ptm {
namespace {

// The register tile: kTileRows x kTileColumns accumulators, two vectors of b and one of a fill the register file.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 14;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTileRows = 6;
#else
constexpr int kLanes = 4, kTileRows = 6;
#endif
constexpr int kVectors = 2, kTileColumns = kVectors * kLanes;
constexpr int64_t kPanelDepth = 256;  // k per panel; a panel of b (32 KiB with 16 lanes) lies on the stack

using Vector = float __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

Vector Load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
void Store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// Lines of memory a tile asks for on the way, one per k, because the next panel is scattered in memory and comes too
// late otherwise: `lines` of them `stride` bytes apart, then as many starting 64 bytes further, and so on. Addresses
// are integers as they may lie behind the end of an operand, where asking does nothing.
struct Prefetch {
  uintptr_t begin = 0;
  int64_t stride = 0, lines = 0;
};

struct Tile {
  const float* a;
  int64_t a_row_stride, a_k_stride;
  const float* b;  // k rows of kTileColumns
  int64_t ldb, k;
  float* c;
  int64_t ldc;
  Prefetch prefetch;
};

template <int kRows>
void RunTile(const Tile& t, bool continues) {
  // c is met after the loop over k: long enough to fetch its lines for writing.
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(t.c + r * t.ldc + v * kLanes, 1);
  }
  Vector sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = continues ? Load(t.c + r * t.ldc + v * kLanes) : Vector{};
    }
  }
  const float *a = t.a, *b = t.b;
  const int64_t a_row_stride = t.a_row_stride, a_k_stride = t.a_k_stride, ldb = t.ldb;
  const uintptr_t line_stride = static_cast<uintptr_t>(t.prefetch.stride);
  for (int64_t done = 0; done < t.k; done += t.prefetch.lines) {
    const int64_t steps = std::min(t.prefetch.lines, t.k - done);
    uintptr_t line = t.prefetch.begin + static_cast<uintptr_t>(done / t.prefetch.lines * 64);
    for (int64_t k = 0; k < steps; ++k, a += a_k_stride, b += ldb, line += line_stride) {
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
      const Vector b0 = Load(b), b1 = Load(b + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const float a_r = a[r * a_row_stride];
        sum[r][0] += a_r * b0;
        sum[r][1] += a_r * b1;
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      Store(t.c + r * t.ldc + v * kLanes, sum[r][v]);
    }
  }
}

using RunTileFunction = void (*)(const Tile&, bool continues);
template <int... kIndex>
constexpr std::array<RunTileFunction, sizeof...(kIndex)> TileFunctions(std::integer_sequence<int, kIndex...>) {
  return {&RunTile<kIndex + 1>...};
}
constexpr auto kRunTile = TileFunctions(std::make_integer_sequence<int, kTileRows>());  // by rows - 1

// A tile with fewer than kTileColumns columns goes through a full-width copy of c.
void RunNarrowTile(const Tile& t, int rows, int64_t columns, bool continues) {
  float copy[kTileRows * kTileColumns] = {};
  Tile wide = t;
  wide.c = copy;
  wide.ldc = kTileColumns;
  for (int r = 0; r < rows; ++r) std::copy_n(t.c + r * t.ldc, columns, copy + r * kTileColumns);
  kRunTile[rows - 1](wide, continues);
  for (int r = 0; r < rows; ++r) std::copy_n(copy + r * kTileColumns, columns, t.c + r * t.ldc);
}

// Exchanges the off-diagonal kDistance-sized squares of a kLanes x kLanes matrix in rows[]; all distances in turn
// transpose it.
template <int kDistance, int... kLane>
void ExchangeSquares(Vector (&rows)[kLanes], std::integer_sequence<int, kLane...>) {
  for (int i = 0; i < kLanes; ++i) {
    if (i & kDistance) continue;
    const Vector low = rows[i], high = rows[i + kDistance];
    rows[i] = __builtin_shufflevector(low, high, ((kLane & kDistance) ? kLanes + kLane - kDistance : kLane)...);
    rows[i + kDistance] =
        __builtin_shufflevector(low, high, ((kLane & kDistance) ? kLanes + kLane : kLane + kDistance)...);
  }
}

void Transpose(Vector (&rows)[kLanes]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>();
  if constexpr (kLanes > 8) ExchangeSquares<kLanes / 2>(rows, lanes);
  if constexpr (kLanes > 4) ExchangeSquares<4>(rows, lanes);
  ExchangeSquares<2>(rows, lanes);
  ExchangeSquares<1>(rows, lanes);
}

// panel[depth, kTileColumns] = b[columns, depth]^T; columns beyond `columns` are zero.
void PackTransposed(float* panel, const float* b, int64_t ldb, int64_t columns, int64_t depth) {
  for (int64_t j = 0; j < kTileColumns; j += kLanes) {
    int64_t k = 0;
    for (; j + kLanes <= columns && k + kLanes <= depth; k += kLanes) {
      Vector square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = Load(b + (j + i) * ldb + k);
      Transpose(square);
      for (int i = 0; i < kLanes; ++i) Store(panel + (k + i) * kTileColumns + j, square[i]);
    }
    for (; k < depth; ++k) {
      for (int64_t i = j; i < j + kLanes; ++i) panel[k * kTileColumns + i] = i < columns ? b[i * ldb + k] : 0.0f;
    }
  }
}

void PackNarrow(float* panel, const float* b, int64_t ldb, int64_t columns, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k) {
    std::copy_n(b + k * ldb, columns, panel + k * kTileColumns);
    std::fill_n(panel + k * kTileColumns + columns, kTileColumns - columns, 0.0f);
  }
}

// The address of p[elements], which may lie outside of p's array.
uintptr_t Address(const float* p, int64_t elements) {
  return reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(elements) * sizeof(float);
}

int64_t RowGroups(int64_t m) { return (m + kTileRows - 1) / kTileRows; }

// The tile of row group `group` at column j, over k in [k, k + depth) of panel b. Its prefetch repeats one line.
Tile TileAt(const OrderedGemmArgs& g, int64_t group, int64_t j, int64_t k, int64_t depth, const float* b, int64_t ldb) {
  const int64_t row = g.m * group / RowGroups(g.m);
  return {.a = g.a + row * g.a_row_stride + k * g.a_k_stride,
          .a_row_stride = g.a_row_stride,
          .a_k_stride = g.a_k_stride,
          .b = b,
          .ldb = ldb,
          .k = depth,
          .c = g.c + row * g.ldc + j,
          .ldc = g.ldc,
          .prefetch = {.begin = Address(g.a, row * g.a_row_stride), .lines = depth}};
}

void Run(const OrderedGemmArgs& g, int64_t group, const Tile& tile, int64_t columns, bool continues) {
  const int64_t groups = RowGroups(g.m);
  const int rows = static_cast<int>(g.m * (group + 1) / groups - g.m * group / groups);
  if (columns == kTileColumns) {
    kRunTile[rows - 1](tile, continues);
  } else {
    RunNarrowTile(tile, rows, columns, continues);
  }
}

// One panel of at most kTileColumns columns through all row groups, packed: k in pieces of kPanelDepth, at least one so
// that c is written when k is 0.
void RunPackedPanel(const OrderedGemmArgs& g, int64_t j, int64_t columns) {
  alignas(64) float panel[kPanelDepth * kTileColumns];
  const int64_t groups = RowGroups(g.m);
  for (int64_t k = 0; k == 0 || k < g.k; k += kPanelDepth) {
    const int64_t depth = std::min(kPanelDepth, g.k - k);
    if (g.trans_b) {
      PackTransposed(panel, g.b + j * g.ldb + k, g.ldb, columns, depth);
    } else {
      PackNarrow(panel, g.b + k * g.ldb + j, g.ldb, columns, depth);
    }
    // The piece of b to be packed next, shared out over the row groups.
    const uintptr_t next = Address(g.b, k + depth < g.k ? j * g.ldb + k + depth : (j + columns) * g.ldb);
    const int64_t lines_per_group = (depth * 4 / 64 + groups - 1) / groups;
    for (int64_t group = 0; group < groups; ++group) {
      Tile tile = TileAt(g, group, j, k, depth, panel, kTileColumns);
      if (g.trans_b) {
        tile.prefetch = {.begin = next + static_cast<uintptr_t>(group * lines_per_group * 64),
                         .stride = g.ldb * 4,
                         .lines = kTileColumns};
      }
      Run(g, group, tile, columns, g.accumulate || k > 0);
    }
  }
}

// Full-width panels of an untransposed b, read in place. The inner loop runs along the larger of b and c, so that it
// streams through memory and the smaller one stays in cache.
void RunInPlace(const OrderedGemmArgs& g, int64_t columns) {
  const int64_t groups = RowGroups(g.m), panels = columns / kTileColumns;
  const bool rows_inside = g.k > g.m;
  for (int64_t i = 0; i < groups * panels; ++i) {
    const int64_t group = rows_inside ? i % groups : i / panels,
                  j = (rows_inside ? i / groups : i % panels) * kTileColumns;
    Tile tile = TileAt(g, group, j, 0, g.k, g.b + j, g.ldb);
    // The next panel of b, or the next rows of a: two lines per k, one asked for by every other tile.
    if (rows_inside) {
      tile.prefetch.begin = Address(g.b, j + kTileColumns) + group % 2 * 64;
      tile.prefetch.stride = g.ldb * 4;
    } else if (j < 2 * kTileColumns) {
      tile.prefetch.begin = Address(tile.a, kTileRows * g.a_row_stride) + j / kTileColumns * 64;
      tile.prefetch.stride = g.a_k_stride * 4;
    }
    Run(g, group, tile, kTileColumns, g.accumulate);
  }
}

}  // namespace

void OrderedGemm(const OrderedGemmArgs& g) {
  if (g.m == 0) return;
  const int64_t in_place = g.trans_b ? 0 : g.n / kTileColumns * kTileColumns;
  RunInPlace(g, in_place);
  for (int64_t j = in_place; j < g.n; j += kTileColumns) RunPackedPanel(g, j, std::min<int64_t>(kTileColumns, g.n - j));
}

}  // namespace angel_ptm
