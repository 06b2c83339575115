// The products of bf16_product.h on AMX's tile registers: one panel of rows after the other is multiplied with the
// packed columns. The row panel stays in L1 meanwhile, and c is written along its rows. Sums are converted to elements
// of c while the next tile is multiplied (tile_stream.h).
#ifndef ANGEL_PTM_KERNELS_CPU_TILE_PRODUCT_H_
#define ANGEL_PTM_KERNELS_CPU_TILE_PRODUCT_H_

#if defined(__AMX_BF16__)

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sums_of_products.h"
#include "kernels/cpu/tile_stream.h"

namespace angel_ptm {

// Elements of k at a time: a row panel and a column panel of this depth take two thirds of L1.
constexpr int64_t kTileDepth = 256;

// The sums of a tile on their way to c, one row at a time. The case that counts is a whole tile: any branch among the
// products costs time.
template <typename T, bool kAccumulate>
class TileOfC {
 public:
  TileOfC() = default;
  TileOfC(const Bf16Product& p, int64_t row, int64_t column, const float* sums)
      : c_(p.c.as<T>() + row * p.ldc + column),
        ldc_(p.ldc),
        rows_(std::min<int64_t>(kTileRows, p.m - row)),
        columns_(std::min<int64_t>(kTileColumns, p.n - column)),
        sums_(sums) {}
  bool IsWhole() const { return rows_ == kTileRows && columns_ == kTileColumns; }

  // Prefetches the cache lines of a row of c; loaded only when the row is written, they would arrive too late.
  template <bool kWhole>
  [[gnu::always_inline]] void Prefetch(int64_t row) const {
    if (!kWhole && row >= rows_) return;
    for (int64_t at = 0; at < kTileColumns; at += 64 / static_cast<int64_t>(sizeof(T))) {
      __builtin_prefetch(c_ + row * ldc_ + at, 1);
    }
  }
  template <bool kWhole>
  [[gnu::always_inline]] void Take(int64_t row) const {
    if (!kWhole && row >= rows_) return;
    T* const to = c_ + row * ldc_;
    const float* const sums = sums_ + row * kTileColumns;
    if constexpr (kWhole && !kAccumulate) {
      StoreSums(to, sums);
    } else {
      Finish(to, ldc_, sums, 1, columns_, kAccumulate);
    }
  }

 private:
  T* c_ = nullptr;
  int64_t ldc_ = 0, rows_ = 0, columns_ = 0;
  const float* sums_ = nullptr;
};

// The products of one thread. TileRegisters must exist for its lifetime.
template <typename Tile>
class TileProducts {
 public:
  explicit TileProducts(const Bf16Product& product) : p_(product) {}
  ~TileProducts() {
    stream_.Store();
    for (int64_t part = 0; part < TileStream::kParts; ++part) last_.template Take<false>(part);
  }
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  // Multiplies row panel `panel`, packed over k in [first_k, first_k + kPanelDepth), with the column panels `columns`.
  // The first of these is at `packed`, each next one `column_words` after it. `sums` has room for one tile, or for one
  // tile of each column panel if k is more than kTileDepth; the caller keeps it from one call to the call for the next
  // k.
  void Multiply(int64_t panel, int64_t first_k, const uint32_t* row_panel, PartRange columns, const uint32_t* packed,
                int64_t column_words, float* sums);

 private:
  const Bf16Product& p_;
  TileStream stream_;
  Tile last_;  // the tile whose sums are on their way to c
};

template <typename Tile>
void TileProducts<Tile>::Multiply(int64_t panel, int64_t first_k, const uint32_t* row_panel, PartRange columns,
                                  const uint32_t* packed, int64_t column_words, float* sums) {
  const int64_t row = panel * kTileRows, rows = std::min<int64_t>(kTileRows, p_.m - row);
  const int64_t end = std::min(first_k + kPanelDepth, p_.k);
  for (int64_t k = first_k; k < end; k += kTileDepth) {
    const int64_t depth = std::min(kTileDepth, end - k);
    const uint32_t* column_panel = packed + (k - first_k) / kPairWidth * kTileColumns;
    float* to = sums;
    for (int64_t j = columns.begin; j < columns.end; ++j, column_panel += column_words) {
      const Tile next = k + depth == p_.k ? Tile(p_, row, j * kTileColumns, to) : Tile();
      const auto multiply = [&](auto whole) __attribute__((always_inline)) {
        stream_.Multiply(
            to, k > 0 ? to : nullptr, row_panel, column_panel, depth,
            rows, [&](int64_t part) __attribute__((always_inline)) {
              next.template Prefetch<decltype(whole)::value>(part);
              last_.template Take<decltype(whole)::value>(part);
            });
      };
      if (next.IsWhole() && last_.IsWhole()) {
        multiply(std::true_type());
      } else {
        multiply(std::false_type());
      }
      last_ = next;
      if (p_.k > kTileDepth) to += kTileElements;
    }
    row_panel += PanelWords(depth) * kTileRows;
  }
}

}  // namespace angel_ptm

#endif

#endif  // ANGEL_PTM_KERNELS_CPU_TILE_PRODUCT_H_
