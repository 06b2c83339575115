// Attention of bf16 operands on tile registers (AMX). Every product is a product of panels (bf16_panels.h). An operand
// is packed once for all products that use it, where attention_tiles.h packs for each product. Tiles are 64 keys by 64
// queries: four squares of fp32 sums, [key half][query half][32][32], with queries along the lanes.
#ifndef ANGEL_PTM_KERNELS_CPU_ATTENTION_PANELS_H_
#define ANGEL_PTM_KERNELS_CPU_ATTENTION_PANELS_H_

#include <cstdint>

#if defined(__AMX_BF16__)
#include <immintrin.h>

#include <array>
#endif

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/bf16_panels.h"
#include "kernels/ops/attention.h"

namespace angel_ptm {

#if defined(__AMX_BF16__)
inline constexpr bool kAttentionInPanels = true;
#else
inline constexpr bool kAttentionInPanels = false;
#endif

// Scratch of one thread in 32-bit words, a multiple of 64 bytes. Forward: the packed keys and values of a head.
// Backward: also the packed queries and output gradients, and the fp32 sums of the three gradients.
int64_t PanelAttentionScratch(int64_t keys, int64_t d);
int64_t PanelAttentionGradScratch(int64_t s, int64_t keys, int64_t d);

// PanelAttention runs tasks [begin, end) of (row, query head, tile of 64 queries), the tile varying fastest.
// PanelAttentionGrad runs tasks [begin, end) of (row, key-value head). Operands are bf16, `scratch` is 64-byte aligned.
// Defined only if kAttentionInPanels.
void PanelAttention(const AttentionArgs& args, int64_t begin, int64_t end, float* scratch);
void PanelAttentionGrad(const AttentionGradArgs& args, int64_t begin, int64_t end, float* scratch);

#if defined(__AMX_BF16__)

inline constexpr int64_t kPanelLines = 32;  // of row panels and of column panels
static_assert(kTileRows == kPanelLines && kTileColumns == kPanelLines && kAttentionTile == 2 * kPanelLines);
inline constexpr int64_t kSumSquare = kPanelLines * kPanelLines;
// Words of a panel that spans the 64 keys or queries of a tile.
inline constexpr int64_t kTilePanelWords = PanelWords(kAttentionTile) * kPanelLines;

// Extents of the panels for head dimension d.
struct HeadPanels {
  int64_t d, across;  // across: panels that hold d lines
  int64_t along;      // words of a panel that spans d
  explicit HeadPanels(int64_t dim)
      : d(dim), across((dim + kPanelLines - 1) / kPanelLines), along(PanelWords(dim) * kPanelLines) {}
  // Lines of panel i.
  int64_t Lines(int64_t i) const { return std::min(kPanelLines, d - i * kPanelLines); }
};

// The interval of keys that each query of a tile sees. Lanes after the last query see none.
struct VisibleKeys {
  alignas(64) int32_t first_L[kAttentionTile], last_L[kAttentionTile];
  int64_t begin = 0, end = 0;          // the keys that any query sees are in this interval
  int64_t all_begin = 0, all_end = 0;  // the keys that every lane sees

  template <typename Args>
  VisibleKeys(const Args& args, int64_t b, int64_t first_query) {
    const int64_t n = std::min(kAttentionTile, args.s - first_query);
    for (int64_t i = 0; i < kAttentionTile; ++i) {
      const int64_t query = first_query + i;
      first_L[i] = i >= n ? 1 : args.keys > 0 ? 0 : args.segment_start[b * args.s + query];
      last_L[i] = static_cast<int32_t>(i >= n ? 0 : args.keys > 0 ? KeysSeenInRow(args, b) - 1 : query);
    }
    begin = *std::min_element(first_L, first_L + n);
    end = *std::max_element(last_L, last_L + n) + 1;
    all_begin = *std::max_element(first_L, first_L + kAttentionTile);
    all_end = *std::min_element(last_L, last_L + kAttentionTile) + 1;
  }
  bool SomeSee(int64_t key) const { return key < end && key + kAttentionTile > begin; }
  bool AllSee(int64_t key) const { return key >= all_begin && key + kAttentionTile <= all_end; }
  // KeysOfLane: bit i says whether `lane` sees key `key` + i. LanesOfKey: bit i says whether lane i sees `key`.
  uint64_t KeysOfLane(int64_t lane, int64_t key) const;
  uint64_t LanesOfKey(int64_t key) const;
};

// Packs the two row panels, or the two column panels, of a tile from `lines` lines over `depth`. Missing lines are
// zero.
void PackTileRows(uint32_t* panels, const Lines& x, int64_t lines, int64_t depth);
void PackTileColumns(uint32_t* panels, const Lines& x, int64_t lines, int64_t depth);
// Packs the `n` <= 64 tokens that start at `x`, which are rows of d elements `row` elements apart, with the tokens
// along the depth: d lines in panels of kTilePanelWords words.
void PackTokensOfRows(uint32_t* panels, const BFloat16* x, int64_t row, int64_t n, const HeadPanels& head);
void PackTokensOfColumns(uint32_t* panels, const BFloat16* x, int64_t row, int64_t n, const HeadPanels& head);

// ColumnWords: where word `word` of the 16 lines that start at `line` begins in a column panel. RowWords: where word
// `word` of `line` begins in a row panel.
inline int64_t ColumnWords(int64_t line, int64_t word) {
  return word / kWordLanes * kWordLanes * kPanelLines + line * kWordLanes + word % kWordLanes * kWordLanes;
}
inline int64_t RowWords(int64_t line, int64_t word) { return word * kPanelLines + line * kWordLanes; }

// 2^x within 1 ulp, 0 where 2^x is not a normal number; NaN stays NaN. Attention weights are powers of two, because the
// factor log2(e) of the exponent merges with the scale of the scores: half the instructions of e^x.
inline __m512 PowerOfTwo(__m512 x) {
  constexpr int kNearest = 8;  // to an integer, no exceptions
  // If one operand is NaN, max returns the second.
  const __m512 clamped = _mm512_maskz_max_ps(0xffff, _mm512_set1_ps(-200.0f), x);
  const __m512 n = _mm512_maskz_roundscale_ps(0xffff, clamped, kNearest);
  const __m512 r = clamped - n;
  // 2^r = 1 + r p(r): p interpolates at the Chebyshev points of [-1/2, 1/2].
  __m512 p = _mm512_set1_ps(1.54531634e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.33908633e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.61808302e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.55035695e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40226507e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93147182e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(clamped, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), p, n);
}
inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// Lanes [lane, lane + 16) of a tile that see key `key`.
inline __mmask16 LanesSeeing(const VisibleKeys& seen, int64_t lane, int64_t key) {
  const __m512i at = _mm512_set1_epi32(static_cast<int>(key));
  return _mm512_mask_cmple_epi32_mask(_mm512_cmple_epi32_mask(_mm512_load_si512(seen.first_L + lane), at), at,
                                      _mm512_load_si512(seen.last_L + lane));
}

// Stores 32 elements rounded to bf16. StoreInterleaved: low[0], high[0], low[1], ...; StoreBeside: all of low, then all
// of high.
inline void StoreInterleaved(uint32_t* to, __m512 low, __m512 high) {
  alignas(64) static constexpr auto kOrder = [] {
    std::array<uint16_t, 2 * kWordLanes> order{};
    for (int i = 0; i < kWordLanes; ++i) {
      order[2 * i] = static_cast<uint16_t>(i);
      order[2 * i + 1] = static_cast<uint16_t>(kWordLanes + i);
    }
    return order;
  }();
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  _mm512_store_si512(to, _mm512_maskz_permutexvar_epi16(0xffffffff, _mm512_load_si512(kOrder.data()), halves));
}
inline void StoreBeside(uint32_t* to, __m512 low, __m512 high) {
  _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// sums += rows of row_panel times column_panel over `depth` <= 64, restricted to visible pairs. Each line of one
// operand, its rows (kLinesAreRows) or its columns, is multiplied only with those elements of the other operand that
// seen(line) contains: zeros in the line would not silence NaN and infinity in the other operand. Bits are those of a
// product in which the unseen elements of the line are zeros.
template <bool kLinesAreRows, typename Seen>
void MultiplySeen(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth,
                  const Seen& seen);
void KeepSeenRows(uint32_t* panel, uint64_t seen);
void KeepSeenColumns(uint32_t* panel, uint64_t seen);

template <bool kLinesAreRows, typename Seen>
void MultiplySeen(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth,
                  const Seen& seen) {
  alignas(64) uint32_t kept[kTilePanelWords];
  alignas(64) float copy[kSumSquare], result[kSumSquare];
  std::copy_n(sums, kSumSquare, result);
  for (int64_t line = 0; line < kPanelLines; ++line) {
    std::copy_n(sums, kSumSquare, copy);
    std::copy_n(kLinesAreRows ? column_panel : row_panel, kTilePanelWords, kept);
    if constexpr (kLinesAreRows) {
      KeepSeenColumns(kept, seen(line));
      MultiplyPanels(copy, row_panel, kept, depth, kPanelLines, /*continues=*/true);
      std::copy_n(copy + line * kPanelLines, kPanelLines, result + line * kPanelLines);
    } else {
      KeepSeenRows(kept, seen(line));
      MultiplyPanels(copy, kept, column_panel, depth, kPanelLines, /*continues=*/true);
      for (int64_t i = line; i < kSumSquare; i += kPanelLines) result[i] = copy[i];
    }
  }
  std::copy_n(result, kSumSquare, sums);
}

// StoreSquare: to[rows, columns] = sums, rounded. StoreTransposed: to[rows, columns] = the transpose of sums[columns,
// rows], with row i of the result multiplied by factor[i], rounded.
void StoreSquare(BFloat16* to, int64_t to_row, const float* sums, int64_t rows, int64_t columns);
void StoreTransposed(BFloat16* to, int64_t to_row, const float* sums, const float* factor, int64_t rows,
                     int64_t columns);

#endif

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_ATTENTION_PANELS_H_
