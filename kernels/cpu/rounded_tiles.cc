#include "kernels/cpu/rounded_tiles.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>

#include <array>

#include "kernels/cpu/word_squares.h"
#endif

namespace angel_ptm {

#if defined(__AMX_BF16__)

namespace {

// A tile register holds 16 rows of 16 words, a word two neighbours along k; or 16 x 16 sums.
constexpr int64_t kSquare = 16, kSquareWords = kSquare * kSquare, kSquareDepth = 2 * kSquare;
constexpr int64_t kPackedWordsMax = kHeadDimMax * kAttentionTile / 2;

__mmask16 Lanes(int64_t n) {
  return static_cast<__mmask16>(n >= kSquare ? 0xffff : (1 << std::max<int64_t>(n, 0)) - 1);
}

// 0, 16, 1, 17, ...: what makes pairs of two halves.
__m512i Interleaving() {
  alignas(64) static constexpr auto kOrder = [] {
    std::array<uint16_t, 2 * kSquare> order{};
    for (int i = 0; i < kSquare; ++i) {
      order[2 * i] = static_cast<uint16_t>(i);
      order[2 * i + 1] = static_cast<uint16_t>(kSquare + i);
    }
    return order;
  }();
  return _mm512_load_si512(kOrder.data());
}

// Elements k (lower halves) and k + 1 of kSquare neighbours.
Words PairAcross(const float* x, int64_t k_stride, __mmask16 lanes, int64_t depth) {
  const __m512 low = _mm512_maskz_loadu_ps(depth > 0 ? lanes : 0, x);
  const __m512 high = _mm512_maskz_loadu_ps(depth > 1 ? lanes : 0, depth > 1 ? x + k_stride : x);
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  return (Words)_mm512_maskz_permutexvar_epi16(0xffffffff, Interleaving(), halves);
}

// The words of one row over kSquareDepth of k.
Words PairsAlong(const float* x, int64_t depth) {
  const __m512 low = _mm512_maskz_loadu_ps(Lanes(depth), x),
               high = _mm512_maskz_loadu_ps(Lanes(depth - kSquare), x + kSquare);
  return (Words)_mm512_cvtne2ps_pbh(high, low);
}

// Rows [row, row + kSquare) of a as squares one after the other over k; what a does not have is zero.
void PackRows(uint32_t* to, const TileProduct& p, int64_t row) {
  const int64_t rows = std::min(kSquare, p.m - row);
  for (int64_t k = 0; k < p.k; k += kSquareDepth, to += kSquareWords) {
    Words words[kSquare];
    if (p.a_k == 1) {
      for (int64_t i = 0; i < kSquare; ++i) {
        words[i] = i < rows ? PairsAlong(p.a + (row + i) * p.a_row + k, p.k - k) : Words{};
      }
    } else {
      const float* const x = p.a + row + k * p.a_k;
      for (int64_t i = 0; i < kSquare; ++i) {
        words[i] = PairAcross(x + 2 * i * p.a_k, p.a_k, Lanes(rows), p.k - k - 2 * i);
      }
      TransposeSquare(words);
    }
    for (int64_t i = 0; i < kSquare; ++i) *reinterpret_cast<Words*>(to + i * kSquare) = words[i];
  }
}

// Columns [column, column + kSquare) of b likewise.
void PackColumns(uint32_t* to, const TileProduct& p, int64_t column) {
  const __mmask16 lanes = Lanes(p.n - column);
  for (int64_t k = 0; k < p.k; k += kSquareDepth, to += kSquareWords) {
    const float* const x = p.b + column + k * p.ldb;
    for (int64_t i = 0; i < kSquare; ++i) {
      *reinterpret_cast<Words*>(to + i * kSquare) = PairAcross(x + 2 * i * p.ldb, p.ldb, lanes, p.k - k - 2 * i);
    }
  }
}

// One square of c: where it lies, or a copy of it where c does not have all of it.
struct SumSquare {
  float* c = nullptr;
  int64_t ldc = 0, rows = 0, columns = 0;
  float copy[kSquareWords];

  void Open(const TileProduct& p, int64_t row, int64_t column) {
    c = p.c + row * p.ldc + column;
    ldc = p.ldc;
    rows = std::min(kSquare, p.m - row);
    columns = std::min(kSquare, p.n - column);
    if (whole() || !p.accumulate) return;
    for (int64_t i = 0; i < rows; ++i) {
      _mm512_storeu_ps(copy + i * kSquare, _mm512_maskz_loadu_ps(Lanes(columns), c + i * ldc));
    }
  }
  void Close() const {
    if (whole()) return;
    for (int64_t i = 0; i < rows; ++i) {
      _mm512_mask_storeu_ps(c + i * ldc, Lanes(columns), _mm512_loadu_ps(copy + i * kSquare));
    }
  }
  bool whole() const { return rows == kSquare && columns == kSquare; }
  float* at() { return whole() ? c : copy; }
  int64_t stride() const { return (whole() ? ldc : kSquare) * static_cast<int64_t>(sizeof(float)); }
};

// The instructions name a register, so there is a line for each. kTile is that of a square of sums.
template <int kTile>
void LoadTile(const float* from, int64_t stride) {
  if constexpr (kTile == 0) _tile_loadd(0, from, stride);
  if constexpr (kTile == 1) _tile_loadd(1, from, stride);
  if constexpr (kTile == 2) _tile_loadd(2, from, stride);
  if constexpr (kTile == 3) _tile_loadd(3, from, stride);
}
template <int kTile>
void ZeroTile() {
  if constexpr (kTile == 0) _tile_zero(0);
  if constexpr (kTile == 1) _tile_zero(1);
  if constexpr (kTile == 2) _tile_zero(2);
  if constexpr (kTile == 3) _tile_zero(3);
}
template <int kTile>
void StoreTile(float* to, int64_t stride) {
  if constexpr (kTile == 0) _tile_stored(0, to, stride);
  if constexpr (kTile == 1) _tile_stored(1, to, stride);
  if constexpr (kTile == 2) _tile_stored(2, to, stride);
  if constexpr (kTile == 3) _tile_stored(3, to, stride);
}

template <int kTile>
void LoadSums(SumSquare& square, const TileProduct& p, int64_t row, int64_t column) {
  square.Open(p, row, column);
  if (p.accumulate) {
    LoadTile<kTile>(square.at(), square.stride());
  } else {
    ZeroTile<kTile>();
  }
}

template <int kTile>
void StoreSums(SumSquare& square) {
  StoreTile<kTile>(square.at(), square.stride());
  square.Close();
}

// kRows x kColumns squares of c from (row, column) on: tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns.
template <int kRows, int kColumns>
void MultiplySquares(const TileProduct& p, int64_t row, int64_t column, const uint32_t* rows, const uint32_t* columns,
                     int64_t packed_words) {
  SumSquare sums[4];
  LoadSums<0>(sums[0], p, row, column);
  if constexpr (kColumns == 2) LoadSums<1>(sums[1], p, row, column + kSquare);
  if constexpr (kRows == 2) LoadSums<2>(sums[2], p, row + kSquare, column);
  if constexpr (kRows == 2 && kColumns == 2) LoadSums<3>(sums[3], p, row + kSquare, column + kSquare);
  constexpr int kBytes = kSquare * 4;
  for (int64_t word = 0; word < packed_words; word += kSquareWords) {
    _tile_loadd(4, rows + word, kBytes);
    _tile_loadd(6, columns + word, kBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, columns + packed_words + word, kBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, rows + packed_words + word, kBytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kColumns == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  StoreSums<0>(sums[0]);
  if constexpr (kColumns == 2) StoreSums<1>(sums[1]);
  if constexpr (kRows == 2) StoreSums<2>(sums[2]);
  if constexpr (kRows == 2 && kColumns == 2) StoreSums<3>(sums[3]);
}

}  // namespace

// All columns are packed first, then two squares of rows at a time.
void MultiplyRoundedTiles(const TileProduct& p) {
  alignas(64) uint32_t columns[kPackedWordsMax], rows[kHeadDimMax * kSquare];
  const int64_t packed_words = (p.k + kSquareDepth - 1) / kSquareDepth * kSquareWords;  // of one square over all of k
  for (int64_t column = 0; column < p.n; column += kSquare) {
    PackColumns(columns + column / kSquare * packed_words, p, column);
  }
  for (int64_t row = 0; row < p.m; row += 2 * kSquare) {
    const bool two_rows = p.m - row > kSquare;
    PackRows(rows, p, row);
    if (two_rows) PackRows(rows + packed_words, p, row + kSquare);
    for (int64_t column = 0; column < p.n; column += 2 * kSquare) {
      const uint32_t* const packed = columns + column / kSquare * packed_words;
      const bool two_columns = p.n - column > kSquare;
      const auto multiply = two_rows ? (two_columns ? &MultiplySquares<2, 2> : &MultiplySquares<2, 1>)
                                     : (two_columns ? &MultiplySquares<1, 2> : &MultiplySquares<1, 1>);
      multiply(p, row, column, rows, packed, packed_words);
    }
  }
}

#else

void MultiplyRoundedTiles(const TileProduct& product) { MultiplyTiles(product); }

#endif

}  // namespace angel_ptm
