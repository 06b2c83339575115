#include "kernels/cpu/bf16_panels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "kernels/cpu/word_squares.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#elif defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace angel_ptm {
namespace {

// Words and halves of an operand, whose rows may start at any element.
using OperandWords = uint32_t __attribute__((vector_size(kWordLanes * 4), aligned(2), may_alias));
using Halves = uint16_t __attribute__((vector_size(kWordLanes * 2), aligned(2), may_alias));

constexpr int64_t kStepDepth = kPairWidth * kWordLanes;  // elements of k in one vector of words

// The address of word `word` of line `line` in a panel, where both are the first of a square of kWordLanes lines and
// words; and the distance between the lines of a row panel and between the words of a column panel.
#if defined(__AMX_BF16__)
constexpr int64_t kRowStride = kWordLanes, kColumnStride = kWordLanes;
uint32_t* RowSquare(uint32_t* panel, int64_t line, int64_t word) {
  return panel + word * kTileRows + line * kWordLanes;
}
uint32_t* ColumnSquare(uint32_t* panel, int64_t line, int64_t word) {
  return panel + word * kTileColumns + line * kWordLanes;
}
#else
constexpr int64_t kRowStride = kPanelWords, kColumnStride = kTileColumns;
uint32_t* RowSquare(uint32_t* panel, int64_t line, int64_t word) { return panel + line * kPanelWords + word; }
uint32_t* ColumnSquare(uint32_t* panel, int64_t line, int64_t word) { return panel + word * kTileColumns + line; }
#endif

void Store(uint32_t* to, Words words) { *reinterpret_cast<Words*>(to) = words; }

// Stores `n` rows of a row panel. The case that counts is all of them: then the words stay in registers.
[[gnu::always_inline]] inline void StoreRows(uint32_t* to, const Words (&words)[kWordLanes], int64_t n) {
  if (n == kWordLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kWordLanes; ++i) Store(to + i * kRowStride, words[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) Store(to + i * kRowStride, words[i]);
  }
}

// kWordLanes elements, each in the lower half of a word.
Words ExtendWords(const BFloat16* p) {
  if constexpr (kWordLanes == kVectorLanes) {
    VectorBits words;
    LoadExtended(words, p);
    return reinterpret_cast<const Words&>(words);
  } else {
    return __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words);
  }
}

// The words of one line over kStepDepth of k.
Words LoadAlong(const BFloat16* p) {
  if constexpr (kPairWidth == 2) return *reinterpret_cast<const OperandWords*>(p);
  return ExtendWords(p) << 16;
}

// One word of each of kWordLanes adjacent lines.
Words LoadAcross(const BFloat16* p, int64_t k_stride) {
  if constexpr (kPairWidth == 2) return ExtendWords(p) | (ExtendWords(p + k_stride) << 16);
  return ExtendWords(p) << 16;
}

// A copy of a step's lines [0, n) and k in [0, depth), with zeros elsewhere.
struct PaddedStep {
  alignas(64) BFloat16 elements[kWordLanes * kStepDepth] = {};
  Lines lines;

  PaddedStep(const Lines& from, int64_t n, int64_t depth) {
    lines = from.k == 1 ? Lines{elements, kStepDepth, 1} : Lines{elements, 1, kWordLanes};
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < depth; ++k)
        elements[i * lines.line + k * lines.k] = from.data[i * from.line + k * from.k];
    }
  }
};

// Loads a whole step: words[i] are the words of line i (kAlong) or the i-th words of all lines (otherwise).
template <bool kAlong>
[[gnu::always_inline]] inline void LoadStep(Words (&words)[kWordLanes], const Lines& x) {
  if (x.k == 1) {
#pragma GCC unroll 16
    for (int i = 0; i < kWordLanes; ++i) words[i] = LoadAlong(x.data + i * x.line);
    if constexpr (!kAlong) TransposeSquare(words);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kWordLanes; ++i) words[i] = LoadAcross(x.data + i * kPairWidth * x.k, x.k);
    if constexpr (kAlong) TransposeSquare(words);
  }
}

// The same for a step that may have fewer lines (`n`) or less depth.
template <bool kAlong>
[[gnu::always_inline]] inline void LoadStep(Words (&words)[kWordLanes], const Lines& x, int64_t n, int64_t depth) {
  if (n >= kWordLanes && depth >= kStepDepth) return LoadStep<kAlong>(words, x);
  const PaddedStep padded(x, std::min<int64_t>(n, kWordLanes), std::min(depth, kStepDepth));
  LoadStep<kAlong>(words, padded.lines);
}

// If a word is one element, squares of lines along k are transposed as pairs of elements, with half the work: pairs[i]
// holds elements 2 i (lower halves) and 2 i + 1 (upper halves) of k.
constexpr int64_t kPairsDepth = kPairWidth == 1 ? 2 * kWordLanes : 0;  // of k in one such square
bool TakesPairs(const Lines& x, int64_t lines, int64_t depth) {
  return kPairWidth == 1 && x.k == 1 && lines >= kWordLanes && depth >= kPairsDepth;
}
[[gnu::always_inline]] inline void LoadPairs(Words (&pairs)[kWordLanes], const Lines& x) {
#pragma GCC unroll 16
  for (int i = 0; i < kWordLanes; ++i) pairs[i] = *reinterpret_cast<const OperandWords*>(x.data + i * x.line);
  TransposeSquare(pairs);
}
// Prefetches what a step of the next column panel will load from lines along k: these are more streams than the
// processor tracks on its own. The addresses may lie past the operand's end, where prefetching does nothing.
[[gnu::always_inline]] inline void PrefetchNextPanel(const Lines& x) {
  if (x.k != 1) return;
  uintptr_t at = reinterpret_cast<uintptr_t>(x.data) + static_cast<uintptr_t>(kTileColumns * x.line * 2);
#pragma GCC unroll 16
  for (int i = 0; i < kWordLanes; ++i, at += static_cast<uintptr_t>(x.line * 2)) {
    __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
  }
}

// Columns are packed a round of k at a time.
constexpr int64_t kRoundDepth = std::max(kPairsDepth, kStepDepth);
Words Even(Words pairs) { return pairs << 16; }
Words Odd(Words pairs) { return pairs & 0xffff0000u; }

}  // namespace

void PackRowPanel(uint32_t* panel, const Lines& a, int64_t lines, int64_t depth) {
  const int64_t rows = std::min<int64_t>(kTileRows, lines);
  for (int64_t k = 0; k < depth; k += kStepDepth) {
    for (int64_t row = 0; row < rows; row += kWordLanes) {
      const int64_t n = std::min<int64_t>(kWordLanes, rows - row);
      const Lines step = a.At(row, k);
      uint32_t* const to = RowSquare(panel, row, k / kPairWidth);
      if (step.k == 1 && depth - k >= kStepDepth) {
        for (int64_t i = 0; i < n; ++i) Store(to + i * kRowStride, LoadAlong(step.data + i * step.line));
        continue;
      }
      Words words[kWordLanes];
      LoadStep<true>(words, step, lines - row, depth - k);
      StoreRows(to, words, n);
    }
  }
}

void PackColumnPanel(uint32_t* panel, const Lines& b, int64_t lines, int64_t depth) {
  for (int64_t k = 0; k < depth; k += kRoundDepth) {
    int64_t column = 0;
    for (; column < std::min<int64_t>(kTileColumns, lines); column += kWordLanes) {
      if (TakesPairs(b, lines - column, depth - k)) {
        Words pairs[kWordLanes];
        LoadPairs(pairs, b.At(column, k));
        uint32_t* const to = ColumnSquare(panel, column, k);
#pragma GCC unroll 16
        for (int i = 0; i < kWordLanes; ++i) {
          Store(to + 2 * i * kColumnStride, Even(pairs[i]));
          Store(to + (2 * i + 1) * kColumnStride, Odd(pairs[i]));
        }
        continue;
      }
      for (int64_t step = k; step < std::min(depth, k + kRoundDepth); step += kStepDepth) {
        Words words[kWordLanes];
        PrefetchNextPanel(b.At(column, step));
        LoadStep<false>(words, b.At(column, step), lines - column, depth - step);
        uint32_t* const to = ColumnSquare(panel, column, step / kPairWidth);
        for (int i = 0; i < kWordLanes; ++i) Store(to + i * kColumnStride, words[i]);
      }
    }
    for (; column < kTileColumns; column += kWordLanes) {
      for (int64_t step = k; step < std::min(depth, k + kRoundDepth); step += kStepDepth) {
        uint32_t* const to = ColumnSquare(panel, column, step / kPairWidth);
        for (int i = 0; i < kWordLanes; ++i) Store(to + i * kColumnStride, Words{});
      }
    }
  }
}

#if defined(__AMX_BF16__)

namespace {

// The operand of ldtilecfg (Intel SDM, volume 1, 18.3): all eight tiles have 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

// The operating system granted the tile registers to the process when the level was chosen (RunnableCpuIsas).
TileRegisters::TileRegisters() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}

TileRegisters::~TileRegisters() { _tile_release(); }

// Tiles 0 to 3 are the sums of 2 x 2 squares, 4 and 5 rows, 6 and 7 columns.
void MultiplyPanels(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth, int64_t rows,
                    bool continues) {
  constexpr int kTileBytes = kWordLanes * 4, kSumBytes = kTileColumns * 4;
  constexpr int64_t kTileWords = kWordLanes * kWordLanes;
  float* const lower = sums + kWordLanes * kTileColumns;
  const bool two_rows = rows > kWordLanes;
  if (continues) {
    _tile_loadd(0, sums, kSumBytes);
    _tile_loadd(1, sums + kWordLanes, kSumBytes);
    _tile_loadd(2, lower, kSumBytes);
    _tile_loadd(3, lower + kWordLanes, kSumBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int64_t words = PanelWords(depth);
  for (int64_t word = 0; word < words;
       word += kWordLanes, row_panel += 2 * kTileWords, column_panel += 2 * kTileWords) {
    _tile_loadd(4, row_panel, kTileBytes);
    _tile_loadd(6, column_panel, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, column_panel + kTileWords, kTileBytes);
    _tile_dpbf16ps(1, 4, 7);
    if (!two_rows) continue;
    _tile_loadd(5, row_panel + kTileWords, kTileBytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kSumBytes);
  _tile_stored(1, sums + kWordLanes, kSumBytes);
  if (!two_rows) return;
  _tile_stored(2, lower, kSumBytes);
  _tile_stored(3, lower + kWordLanes, kSumBytes);
}

namespace {

using Sums = float __attribute__((vector_size(kWordLanes * 4), aligned(4), may_alias));

// One vector of columns: squares of words are transposed in registers and used at once. There is a number for every
// word of a square, zero behind the last, as in a tile.
template <int kRows>
void MultiplySquares(float* sums, const uint32_t* row_panel, const Lines& b, int64_t lines, int64_t depth,
                     bool continues) {
  Sums sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    sum[r] = continues ? *reinterpret_cast<const Sums*>(sums + r * kTileColumns) : Sums{};
  }
  for (int64_t k = 0; k < depth; k += kStepDepth, row_panel += kTileRows * kWordLanes) {
    Words square[kWordLanes];
    LoadStep<false>(square, b.At(0, k), lines, depth - k);
    Sums even[kRows] = {}, odd[kRows] = {};
#pragma GCC unroll 16
    for (int i = 0; i < kWordLanes; ++i) {
      const Sums b_even = (Sums)Even(square[i]), b_odd = (Sums)Odd(square[i]);
      for (int r = 0; r < kRows; ++r) {
        const uint32_t a = row_panel[r * kRowStride + i];
        even[r] += std::bit_cast<float>(a << 16) * b_even;
        odd[r] += std::bit_cast<float>(a & 0xffff0000u) * b_odd;
      }
    }
    for (int r = 0; r < kRows; ++r) sum[r] += even[r] + odd[r];
  }
  for (int r = 0; r < kRows; ++r) *reinterpret_cast<Sums*>(sums + r * kTileColumns) = sum[r];
}

// While an object exists, the thread's vector instructions treat subnormals as zero, as tiles do.
class NoSubnormals {
 public:
  NoSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kDenormalsAreZero | kFlushToZero); }
  ~NoSubnormals() { _mm_setcsr(before_); }
  NoSubnormals(const NoSubnormals&) = delete;
  NoSubnormals& operator=(const NoSubnormals&) = delete;

 private:
  static constexpr unsigned kDenormalsAreZero = 0x40, kFlushToZero = 0x8000;
  const unsigned before_;
};

}  // namespace

#else

namespace {

constexpr int kVectors = kTileColumns / kWordLanes;
using Sums = float __attribute__((vector_size(kWordLanes * 4), aligned(4), may_alias));

#if defined(__AVX512BF16__)
void MultiplyAdd(Sums& sum, uint32_t a, Words b) {
  sum = static_cast<Sums>(
      _mm512_dpbf16_ps(static_cast<__m512>(sum), (__m512bh)_mm512_set1_epi32(static_cast<int>(a)), (__m512bh)b));
}
#else
void MultiplyAdd(Sums& sum, uint32_t a, Words b) { sum += std::bit_cast<float>(a) * (Sums)b; }
#endif

template <int kRows>
void MultiplyRows(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t words, bool continues) {
  Sums sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = continues ? *reinterpret_cast<const Sums*>(sums + r * kTileColumns + v * kWordLanes) : Sums{};
    }
  }
  for (int64_t word = 0; word < words; ++word, column_panel += kTileColumns) {
    Words b[kVectors];
    for (int v = 0; v < kVectors; ++v) b[v] = *reinterpret_cast<const Words*>(column_panel + v * kWordLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const uint32_t a = row_panel[r * kPanelWords + word];
      for (int v = 0; v < kVectors; ++v) MultiplyAdd(sum[r][v], a, b[v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<Sums*>(sums + r * kTileColumns + v * kWordLanes) = sum[r][v];
    }
  }
}

using MultiplyRowsFunction = void (*)(float*, const uint32_t*, const uint32_t*, int64_t, bool);
template <int... kIndex>
constexpr std::array<MultiplyRowsFunction, sizeof...(kIndex)> RowFunctions(std::integer_sequence<int, kIndex...>) {
  return {&MultiplyRows<kIndex + 1>...};
}
constexpr auto kMultiplyRows = RowFunctions(std::make_integer_sequence<int, kTileRows>());  // by rows - 1

// One vector of columns: squares of words are transposed in registers and used at once.
template <int kRows>
void MultiplySquares(float* sums, const uint32_t* row_panel, const Lines& b, int64_t lines, int64_t depth,
                     bool continues) {
  Sums sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    sum[r] = continues ? *reinterpret_cast<const Sums*>(sums + r * kTileColumns) : Sums{};
  }
  int64_t k = 0;
  for (; TakesPairs(b, lines, depth - k); k += kPairsDepth, row_panel += kPairsDepth) {
    Words pairs[kWordLanes];
    LoadPairs(pairs, b.At(0, k));
#pragma GCC unroll 16
    for (int i = 0; i < kWordLanes; ++i) {
      for (int r = 0; r < kRows; ++r) MultiplyAdd(sum[r], row_panel[r * kPanelWords + 2 * i], Even(pairs[i]));
      for (int r = 0; r < kRows; ++r) MultiplyAdd(sum[r], row_panel[r * kPanelWords + 2 * i + 1], Odd(pairs[i]));
    }
  }
  for (; k < depth; k += kStepDepth, row_panel += kWordLanes) {
    Words square[kWordLanes];
    LoadStep<false>(square, b.At(0, k), lines, depth - k);
    const int64_t words = std::min<int64_t>(kWordLanes, (depth - k + kPairWidth - 1) / kPairWidth);
    if (words == kWordLanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kWordLanes; ++i) {
        for (int r = 0; r < kRows; ++r) MultiplyAdd(sum[r], row_panel[r * kPanelWords + i], square[i]);
      }
    } else {
      for (int64_t i = 0; i < words; ++i) {
        for (int r = 0; r < kRows; ++r) MultiplyAdd(sum[r], row_panel[r * kPanelWords + i], square[i]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) *reinterpret_cast<Sums*>(sums + r * kTileColumns) = sum[r];
}

}  // namespace

TileRegisters::TileRegisters() = default;
TileRegisters::~TileRegisters() = default;

void MultiplyPanels(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth, int64_t rows,
                    bool continues) {
  const int64_t words = (depth + kPairWidth - 1) / kPairWidth;
  kMultiplyRows[rows - 1](sums, row_panel, column_panel, words, continues);
}

#endif

void MultiplyColumns(float* sums, const uint32_t* row_panel, const Lines& b, int64_t lines, int64_t depth, int64_t rows,
                     bool continues) {
  static constexpr decltype(&MultiplySquares<1>) kByRows[kFewBf16Rows] = {&MultiplySquares<1>, &MultiplySquares<2>,
                                                                          &MultiplySquares<3>, &MultiplySquares<4>};
#if defined(__AMX_BF16__)
  const NoSubnormals flush;
#endif
  for (int64_t column = 0; column < std::min<int64_t>(kTileColumns, lines); column += kWordLanes) {
    kByRows[rows - 1](sums + column, row_panel, b.At(column, 0), lines - column, depth, continues);
  }
}

}  // namespace angel_ptm
