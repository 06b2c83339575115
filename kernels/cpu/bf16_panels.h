// The innermost part of a bf16 product on one thread: a tile of fp32 sums, and the two panels it is made of, copied out
// of the operands into the order the processor's instruction for it reads.
//
// Everything is counted in 32-bit words along k. A word is what one lane multiplies at a time: two neighbouring bf16 of
// a row for AMX and vdpbf16ps, one widened to fp32 for FMA. So a panel is the same on all instruction sets:
//   row panel     [kTileRows][kPanelWords]      of op(a)
//   column panel  [words][kTileColumns]         of op(b)
// but for AMX, whose tiles are loaded from 1 KiB that lies together:
//   row panel     [words / 16][kTileRows / 16][16 rows][16 words]
//   column panel  [words / 16][kTileColumns / 16][16 words][16 columns]
//
// Every element of a tile is one chain over k that starts at zero. It depends on its row of op(a) and its column of
// op(b), and not on where in a tile or panel it is, nor on what is beside it. The chain itself is the instruction's:
// FMA rounds per k, the other two per pair and take subnormals for zero.
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
// A row and a column panel fill L1. AMX takes a panel in parts (kTileDepth): it is as long as makes a block of rows
// fill an eighth of L2, so that a row of op(a) is read on for whole pages.
#if defined(__AMX_BF16__)
constexpr int64_t kPanelWords = 512;
#else
constexpr int64_t kPanelWords = 256;
#endif
constexpr int64_t kPanelDepth = kPanelWords * kPairWidth;
constexpr int64_t kTileElements = int64_t{kTileRows} * kTileColumns;

// Words of a panel that holds `depth` elements of k: whole vectors, zero behind the last element.
constexpr int64_t PanelWords(int64_t depth) {
  const int64_t step = kPairWidth * kWordLanes;
  return (depth + step - 1) / step * kWordLanes;
}

// A matrix of lines (rows of op(a), columns of op(b)) along k. One of the strides, in elements, is 1.
struct Lines {
  const BFloat16* data = nullptr;
  int64_t line = 0, k = 0;
  Lines At(int64_t first_line, int64_t first_k) const { return {data + first_line * line + first_k * k, line, k}; }
};

// Copies as many of a's lines, of which there are `lines` >= 1, as the panel has rows, with k in [0, depth), depth <=
// kPanelDepth. Rows for which there is no line stay as they are.
void PackRowPanel(uint32_t* panel, const Lines& a, int64_t lines, int64_t depth);
// The same for columns; those for which there is no line become zero.
void PackColumnPanel(uint32_t* panel, const Lines& b, int64_t lines, int64_t depth);

// What a thread needs around calls of MultiplyPanels: AMX's tile registers.
class TileRegisters {
 public:
  TileRegisters();
  ~TileRegisters();
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// sums[kTileRows][kTileColumns] = (continues ? sums : 0) + rows of row_panel times column_panel over `depth` of k. Only
// the first `rows` rows are of use afterwards.
void MultiplyPanels(float* sums, const uint32_t* row_panel, const uint32_t* column_panel, int64_t depth, int64_t rows,
                    bool continues);

constexpr int kFewBf16Rows = 4;
// Of a row panel of so few rows: on AMX they lie apart as those of any panel.
#if defined(__AMX_BF16__)
constexpr int64_t kFewRowsPanelWords = kTileRows * kPanelWords;
#else
constexpr int64_t kFewRowsPanelWords = kFewBf16Rows * kPanelWords;
#endif
// The same with at most kFewBf16Rows rows and the columns as they lie in op(b), of which there are `lines` >= 1, along
// k: to pack them would cost more than to multiply. The chains are those of MultiplyPanels, on AMX its tiles' by FMA:
// the even and the odd elements of 32 of k by themselves, then their sum is added; subnormals are zero.
void MultiplyColumns(float* sums, const uint32_t* row_panel, const Lines& b, int64_t lines, int64_t depth, int64_t rows,
                     bool continues);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_BF16_PANELS_H_
