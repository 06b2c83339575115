// The innermost part of a bf16 product, on one thread: a tile of fp32 sums, and the two panels it is computed from.
// Panels are copies of the operands in the order that the processor's multiply instruction reads.
//
// Everything is counted in 32-bit words along k. A word is what one lane multiplies at a time: two neighbouring bf16 of
// a row for AMX and vdpbf16ps, or one bf16 widened to fp32 for FMA. So the panel layout is the same on all instruction
// sets:
//   row panel     [kTileRows][kPanelWords]      of op(a)
//   column panel  [words][kTileColumns]         of op(b)
// except on AMX, whose tiles are loaded from contiguous blocks of 1 KiB:
//   row panel     [words / 16][kTileRows / 16][16 rows][16 words]
//   column panel  [words / 16][kTileColumns / 16][16 words][16 columns]
//
// Every element of a tile is one chain of additions over k that starts at zero. It depends on its row of op(a) and its
// column of op(b), but not on its place in a tile or panel nor on the elements beside it. The chain itself is defined
// by the instruction: FMA rounds per k, the other two round per pair and treat subnormals as zero.
#ifndef ANGEL_PTM_KERNELS_CPU_BF16_PANELS_H_
#define ANGEL_PTM_KERNELS_CPU_BF16_PANELS_H_

#include <cstdint>

#include "kernels/cpu/bf16.h"

namespace angel_ptm {

#if defined(__AMX_BF16__)
constexpr int kPairWidth = 2, kWordLanes = 16, kTileRows = 32, kTileColumns = 32;
#elif defined(__AVX512BF16__)
constexpr int kPairWidth = 2, kWordLanes = 16, kTileRows = 14, kTileColumns = 32;
#elif defined(__AVX512F__)
constexpr int kPairWidth = 1, kWordLanes = 16, kTileRows = 14, kTileColumns = 32;
#elif defined(__AVX__)
constexpr int kPairWidth = 1, kWordLanes = 8, kTileRows = 6, kTileColumns = 16;
#else
constexpr int kPairWidth = 1, kWordLanes = 4, kTileRows = 6, kTileColumns = 8;
#endif
// A row panel and a column panel fill L1. AMX takes a panel in parts (kTileDepth), so its panels can be longer: a block
// of rows then fills an eighth of L2, and each row of op(a) is read in long runs.
#if defined(__AMX_BF16__)
constexpr int64_t kPanelWords = 512;
#else
constexpr int64_t kPanelWords = 256;
#endif
constexpr int64_t kPanelDepth = kPanelWords * kPairWidth;
constexpr int64_t kTileElements = int64_t{kTileRows} * kTileColumns;

// Words per line of a panel that holds `depth` elements of k: whole vectors, zero after the last element.
constexpr int64_t PanelWords(int64_t depth) {
  const int64_t step = kPairWidth * kWordLanes;
  return (depth + step - 1) / step * kWordLanes;
}

// A matrix of lines (rows of op(a), columns of op(b)) along k. `line` and `k` are strides in elements; one of them is
// 1.
struct Lines {
  const BFloat16* data = nullptr;
  int64_t line = 0, k = 0;
  Lines At(int64_t first_line, int64_t first_k) const { return {data + first_line * line + first_k * k, line, k}; }
};

// Copies min(`lines`, kTileRows) of a's lines, over k in [0, depth), into the panel. `lines` >= 1,
// depth <= kPanelDepth. The other rows of the panel stay as they are.
void PackRowPanel(uint32_t* panel, const Lines& a, int64_t lines, int64_t depth);
// The same for columns, except that the other columns of the panel become zero.
void PackColumnPanel(uint32_t* panel, const Lines& b, int64_t lines, int64_t depth);

// Scope in which a thread may call MultiplyPanels: configures and releases AMX's tile registers; empty on other levels.
class TileRegisters {
 public:
  TileRegisters();
  ~TileRegisters();
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// sums[kTileRows][kTileColumns] = (continues ? sums : 0) + rows of row_panel times column_panel over `depth` of k. Only
// the first `rows` rows of the result are meaningful.
void MultiplyPanels(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth, int64_t rows,
                    bool continues);

constexpr int kFewBf16Rows = 4;
// Words of a row panel of at most kFewBf16Rows rows. On AMX such rows are laid out as in any panel.
#if defined(__AMX_BF16__)
constexpr int64_t kFewRowsPanelWords = kTileRows * kPanelWords;
#else
constexpr int64_t kFewRowsPanelWords = kFewBf16Rows * kPanelWords;
#endif
// The same for at most kFewBf16Rows rows, with columns read in place from op(b), where they lie along k; packing them
// would cost more than the product. There are `lines` >= 1 columns. Chains are those of MultiplyPanels. On AMX they are
// the chains of its tiles, computed by FMA: per 32 of k, the even and the odd elements are summed separately, then the
// sum of both is added; subnormals are zero.
void MultiplyColumns(float* sums, const uint32_t* row_panel, const Lines& b, int64_t lines, int64_t depth, int64_t rows,
                     bool continues);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_BF16_PANELS_H_
