// Goto & van de Geijn 2008 with both operands packed. As many columns of op(b) as fit in L2 per kPanelDepth of k are
// packed over all of k for all threads; then a grid of blocks of rows is multiplied with them, each block packing its
// rows as it advances through k. Sums are kept in fp32 tiles until the last k, so c is touched once. On AMX a block
// takes one panel of rows after the other (tile_product.h).
#include "kernels/cpu/bf16_product.h"

#include <algorithm>

#include "kernels/cpu/bf16_panels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sums_of_products.h"
#include "kernels/cpu/tile_product.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBlockPanels = kTileRows > 16 ? 4 : 8;  // row panels per block: 112 or more rows from AVX-512 on
#if defined(__AMX_BF16__)
constexpr int64_t kColumnsMax = 1024;               // columns packed at a time
constexpr int64_t kPackedWords = int64_t{1} << 18;  // words they may take, unless kColumnsMin need more: half of L2
constexpr int64_t kChainDepth = kTileDepth;         // largest k for which no sums have to be kept
#else
constexpr int64_t kColumnsMax = 512;
constexpr int64_t kPackedWords = int64_t{2} << 20;
constexpr int64_t kChainDepth = kPanelDepth;
#endif
constexpr int64_t kColumnsMin = 128;

int64_t Panels(int64_t lines, int64_t lines_per_panel) { return (lines + lines_per_panel - 1) / lines_per_panel; }

// How a product is cut into blocks.
struct Blocking {
  int64_t column_words;   // of one column panel over all of k
  int64_t column_panels;  // packed at a time, at most
  int64_t row_panels;     // of one block, at most
  int64_t shared_words;   // for packed columns
  int64_t rows_words;     // per thread, for packed rows
  int64_t sums_words;     // per thread, for kept tiles: those of a block, or one if k <= kChainDepth

  Blocking(int64_t m, int64_t n, int64_t k) : column_words(PanelWords(k) * kTileColumns) {
    const int64_t least = kColumnsMin / kTileColumns,
                  most = std::min(kColumnsMax / kTileColumns, Panels(n, kTileColumns));
    column_panels = std::min(most, std::max(least, kPackedWords / column_words));
    row_panels = std::min(kBlockPanels, Panels(m, kTileRows));
    // None of the following three is larger for a smaller m, n or k.
    shared_words = std::min(most * column_words, std::max(least * column_words, kPackedWords));
    rows_words = row_panels * kTileRows * kPanelWords;
    // If k is more than one panel, at most this many column panels are packed at a time.
    const int64_t deep = std::min(most, kPackedWords / (kPanelWords * kTileColumns));
    sums_words = (k <= kChainDepth ? 1 : std::max(most, deep * row_panels)) * kTileElements;
  }
  int64_t thread_words() const { return rows_words + sums_words; }
};

void FinishTile(const Bf16Product& p, int64_t row, int64_t column, int64_t rows, const float* sums) {
  WithElements(p.c.dtype, [&](auto element) {
    Finish(p.c.as<decltype(element)>() + row * p.ldc + column, p.ldc, sums, rows,
           std::min<int64_t>(kTileColumns, p.n - column), p.accumulate);
  });
}

// The columns that are packed at present.
struct PackedColumns {
  const uint32_t* words;
  int64_t first;  // the first packed panel of op(b)
};

constexpr int64_t kPackDepth = 64;

// Where, in a row panel, the words of its first row at k = `depth`, a multiple of kPackDepth, begin.
constexpr int64_t PanelOffset(int64_t depth) {
#if defined(__AMX_BF16__)
  return depth / kPairWidth * kTileRows;
#else
  return depth / kPairWidth;
#endif
}

constexpr int64_t kRowPanelWords = kTileRows * kPanelWords;

// Packs row panels `rows` over k in [k, k + kPanelDepth).
void PackRows(uint32_t* to, const Bf16Product& p, PartRange rows, int64_t k) {
  const Lines a = {p.a, p.trans_a ? 1 : p.lda, p.trans_a ? p.lda : 1};
  const int64_t depth = std::min(kPanelDepth, p.k - k);
  // If op(a) is transposed, the elements of one k are contiguous across rows: packing a short depth of all panels at a
  // time keeps reading the same cache lines and pages.
  const int64_t step = p.trans_a ? kPackDepth : depth;
  for (int64_t done = 0; done < depth; done += step) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      PackRowPanel(to + (i - rows.begin) * kRowPanelWords + PanelOffset(done), a.At(i * kTileRows, k + done),
                   p.m - i * kTileRows, std::min(step, depth - done));
    }
  }
}

#if defined(__AMX_BF16__)

template <typename Tile, typename Body>
void MultiplyTiles(const Bf16Product& p, const Blocking& blocking, const Body& body) {
  const TileRegisters registers;
  TileProducts<Tile> products(p);
  body([&](PartRange rows, PartRange columns, const PackedColumns& packed, uint32_t* scratch) {
    const uint32_t* const words = packed.words + (columns.begin - packed.first) * blocking.column_words;
    float* const sums = reinterpret_cast<float*>(scratch + blocking.rows_words);
    // Tiles of sums are kept only if there is a next panel of k.
    const int64_t waiting = p.k > kPanelDepth ? (columns.end - columns.begin) * kTileElements : 0;
    for (int64_t k = 0; k < p.k; k += kPanelDepth) {
      PackRows(scratch, p, rows, k);
      for (int64_t i = 0; i < rows.end - rows.begin; ++i) {
        products.Multiply(rows.begin + i, k, scratch + i * kRowPanelWords, columns,
                          words + k / kPairWidth * kTileColumns, blocking.column_words, sums + i * waiting);
      }
    }
  });
}

// Calls body(multiply), where multiply(rows, columns, packed, scratch) computes one block: row panels `rows` times
// column panels `columns`, both counted from the first panel of the whole product.
template <typename Body>
void WithBlocks(const Bf16Product& p, const Blocking& blocking, const Body& body) {
  WithElements(p.c.dtype, [&](auto element) {
    using T = decltype(element);
    if (p.accumulate) return MultiplyTiles<TileOfC<T, true>>(p, blocking, body);
    MultiplyTiles<TileOfC<T, false>>(p, blocking, body);
  });
}

#else

constexpr int64_t kPrefetchDepth = 128;  // a product of this depth takes as long as c's cache lines take to arrive

// Prefetches the cache lines of a tile of c; loaded only when the tile is written, they would arrive too late.
void PrefetchTile(const Bf16Product& p, int64_t row, int64_t column, int64_t rows) {
  const int64_t size = SizeOf(p.c.dtype);
  const std::byte* c = static_cast<const std::byte*>(p.c.data) + (row * p.ldc + column) * size;
  for (int64_t i = 0; i < rows; ++i, c += p.ldc * size) {
    for (int64_t at = 0; at < kTileColumns * size; at += 64) __builtin_prefetch(c + at, 1);
  }
}

// Computes one block: row panels `rows` times column panels `columns`, both counted from the first panel of the whole
// product.
void MultiplyBlock(const Bf16Product& p, const Blocking& blocking, PartRange rows, PartRange columns,
                   const PackedColumns& packed, uint32_t* scratch) {
  const auto rows_of = [&](int64_t panel) { return std::min<int64_t>(kTileRows, p.m - panel * kTileRows); };
  const auto row_panel = [&](int64_t panel) { return scratch + (panel - rows.begin) * kRowPanelWords; };
  float* const sums = reinterpret_cast<float*>(scratch + blocking.rows_words);
  for (int64_t k = 0; k < p.k; k += kPanelDepth) {
    const int64_t depth = std::min(kPanelDepth, p.k - k);
    PackRows(scratch, p, rows, k);
    float* tile = sums;
    for (int64_t j = columns.begin; j < columns.end; ++j) {
      const uint32_t* const column_panel =
          packed.words + (j - packed.first) * blocking.column_words + k / kPairWidth * kTileColumns;
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        if (k + depth == p.k && p.k >= kPrefetchDepth) PrefetchTile(p, i * kTileRows, j * kTileColumns, rows_of(i));
        MultiplyPanels(tile, row_panel(i), column_panel, depth, rows_of(i), k > 0);
        if (k + depth == p.k) FinishTile(p, i * kTileRows, j * kTileColumns, rows_of(i), tile);
        if (p.k > kPanelDepth) tile += kTileElements;
      }
    }
  }
}

template <typename Body>
void WithBlocks(const Bf16Product& p, const Blocking& blocking, const Body& body) {
  body([&](PartRange rows, PartRange columns, const PackedColumns& packed, uint32_t* scratch) {
    MultiplyBlock(p, blocking, rows, columns, packed, scratch);
  });
}

#endif

void PackColumns(int threads, const Bf16Product& p, const Blocking& blocking, PartRange panels, uint32_t* words) {
  const Lines b = {p.b, p.trans_b ? p.ldb : 1, p.trans_b ? 1 : p.ldb};
  const int64_t pieces = Panels(p.k, kPanelDepth);
  ParallelFor(threads, (panels.end - panels.begin) * pieces, [&](int64_t i) {
    const int64_t panel = i / pieces, k = i % pieces * kPanelDepth, column = (panels.begin + panel) * kTileColumns;
    PackColumnPanel(words + panel * blocking.column_words + k / kPairWidth * kTileColumns, b.At(column, k),
                    p.n - column, std::min(kPanelDepth, p.k - k));
  });
}

// Multiplies few rows, packed over all of k, with columns read in place. The packed rows fit in the workspace: per k,
// the packed columns take at least 32 bytes of it for each row, and on AMX as much as a whole panel of rows.
void MultiplyFewRows(int threads, const Bf16Product& p, uint32_t* packed_a) {
  const Lines a = {p.a, p.trans_a ? 1 : p.lda, p.trans_a ? p.lda : 1};
  const auto row_panel = [&](int64_t k) { return packed_a + k / kPanelDepth * kFewRowsPanelWords; };
  for (int64_t k = 0; k < p.k; k += kPanelDepth) {
    PackRowPanel(row_panel(k), a.At(0, k), p.m, std::min(kPanelDepth, p.k - k));
  }
  const Lines b = {p.b, p.ldb, 1};
  ParallelFor(threads, Panels(p.n, kTileColumns), [&](int64_t panel) {
    const int64_t column = panel * kTileColumns;
    float sums[kFewBf16Rows * kTileColumns];
    for (int64_t k = 0; k < p.k; k += kPanelDepth) {
      MultiplyColumns(sums, row_panel(k), b.At(column, k), p.n - column, std::min(kPanelDepth, p.k - k), p.m, k > 0);
    }
    FinishTile(p, 0, column, p.m, sums);
  });
}

}  // namespace

int64_t Bf16ProductWorkspace(int64_t m, int64_t n, int64_t k, int threads) {
  const Blocking blocking(m, n, k);
  return (blocking.shared_words + threads * blocking.thread_words()) * 4;
}

void MultiplyBf16(int threads, const Bf16Product& p, std::byte* workspace) {
  const Blocking blocking(p.m, p.n, p.k);
  uint32_t* const packed = reinterpret_cast<uint32_t*>(workspace);
  if (p.trans_b && p.m <= kFewBf16Rows) return MultiplyFewRows(threads, p, packed);
  uint32_t* const scratch = packed + blocking.shared_words;
  const int64_t row_panels = Panels(p.m, kTileRows), column_panels = Panels(p.n, kTileColumns);
  // Every thread gets the same number of blocks of rows; if there are too few rows for that, blocks have fewer columns.
  const int64_t least = Panels(row_panels, blocking.row_panels);
  const int64_t row_blocks = std::min(row_panels, Panels(least, threads) * threads);
  const int64_t column_blocks = std::min(blocking.column_panels, Panels(threads, row_blocks));
  for (int64_t first = 0; first < column_panels; first += blocking.column_panels) {
    const PartRange panels = {first, std::min(column_panels, first + blocking.column_panels)};
    PackColumns(threads, p, blocking, panels, packed);
    ParallelRanges(threads, row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end, int part) {
      WithBlocks(p, blocking, [&](const auto& multiply) {
        for (int64_t i = begin; i < end; ++i) {
          PartRange columns = PartOf(panels.end - panels.begin, 1, column_blocks, i % column_blocks);
          columns.begin += first;
          columns.end += first;
          multiply(PartOf(row_panels, 1, row_blocks, i / column_blocks), columns, PackedColumns{packed, first},
                   scratch + part * blocking.thread_words());
        }
      });
    });
  }
}

}  // namespace angel_ptm
