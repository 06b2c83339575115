#include "kernels/cpu/attention_panels.h"

#if defined(__AMX_BF16__)

#include "kernels/cpu/word_squares.h"

namespace angel_ptm {
namespace {

// A mask of the two halves of word `word` of a line: the halves whose elements are in `seen`.
uint32_t SeenHalves(uint64_t seen, int64_t word) {
  return (seen >> (2 * word) & 1 ? 0xffffu : 0) | (seen >> (2 * word + 1) & 1 ? 0xffff0000u : 0);
}

}  // namespace

uint64_t VisibleKeys::KeysOfLane(int64_t lane, int64_t key) const {
  uint64_t seen = 0;
  for (int64_t i = 0; i < kAttentionTile; ++i) {
    seen |= static_cast<uint64_t>(key + i >= first_L[lane] && key + i <= last_L[lane]) << i;
  }
  return seen;
}

uint64_t VisibleKeys::LanesOfKey(int64_t key) const {
  uint64_t seen = 0;
  for (int64_t i = 0; i < kAttentionTile; ++i) {
    seen |= static_cast<uint64_t>(key >= first_L[i] && key <= last_L[i]) << i;
  }
  return seen;
}

void PackTileRows(uint32_t* panels, const Lines& x, int64_t lines, int64_t depth) {
  const int64_t words = PanelWords(depth) * kPanelLines;
  for (int64_t first = 0; first < kAttentionTile; first += kPanelLines, panels += words) {
    if (lines - first < kPanelLines) std::fill_n(panels, words, 0u);
    if (lines > first) PackRowPanel(panels, x.At(first, 0), lines - first, depth);
  }
}

void PackTileColumns(uint32_t* panels, const Lines& x, int64_t lines, int64_t depth) {
  const int64_t words = PanelWords(depth) * kPanelLines;
  for (int64_t first = 0; first < kAttentionTile; first += kPanelLines, panels += words) {
    if (lines > first) {
      PackColumnPanel(panels, x.At(first, 0), lines - first, depth);
    } else {
      std::fill_n(panels, words, 0u);
    }
  }
}

void PackTokensOfRows(uint32_t* panels, const BFloat16* x, int64_t row, int64_t n, const HeadPanels& head) {
  for (int64_t i = 0; i < head.across; ++i, panels += kTilePanelWords, x += kPanelLines) {
    // MultiplyPanels multiplies all squares of rows, so missing rows must hold finite numbers.
    if (head.Lines(i) < kPanelLines || n < kAttentionTile) std::fill_n(panels, kTilePanelWords, 0u);
    PackRowPanel(panels, {x, 1, row}, head.d - i * kPanelLines, n);
  }
}

void PackTokensOfColumns(uint32_t* panels, const BFloat16* x, int64_t row, int64_t n, const HeadPanels& head) {
  for (int64_t i = 0; i < head.across; ++i, panels += kTilePanelWords, x += kPanelLines) {
    if (n < kAttentionTile) std::fill_n(panels, kTilePanelWords, 0u);
    PackColumnPanel(panels, {x, 1, row}, head.d - i * kPanelLines, n);
  }
}

void KeepSeenRows(uint32_t* panel, uint64_t seen) {
  for (int64_t word = 0; word < PanelWords(kAttentionTile); ++word) {
    const uint32_t halves = SeenHalves(seen, word);
    uint32_t* const first = panel + RowWords(0, word / kWordLanes * kWordLanes) + word % kWordLanes;
    for (int64_t line = 0; line < kPanelLines; ++line) first[line * kWordLanes] &= halves;
  }
}

void KeepSeenColumns(uint32_t* panel, uint64_t seen) {
  for (int64_t word = 0; word < PanelWords(kAttentionTile); ++word) {
    const uint32_t halves = SeenHalves(seen, word);
    for (int64_t line = 0; line < kPanelLines; line += kWordLanes) {
      for (int64_t i = 0; i < kWordLanes; ++i) panel[ColumnWords(line, word) + i] &= halves;
    }
  }
}

void StoreSquare(BFloat16* to, int64_t to_row, const float* sums, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, to += to_row, sums += kPanelLines) {
    for (int64_t i = 0; i < columns; i += kVectorLanes) {
      Vector x;
      LoadVector(x, sums + i);
      StoreLanes(to, x, i, columns);
    }
  }
}

void StoreTransposed(BFloat16* to, int64_t to_row, const float* sums, const float* factor, int64_t rows,
                     int64_t columns) {
  for (int64_t row = 0; row < rows; row += kWordLanes) {
    Vector factors;
    LoadVector(factors, factor + row);
    for (int64_t column = 0; column < columns; column += kWordLanes) {
      Words square[kWordLanes];
      for (int64_t i = 0; i < kWordLanes; ++i) {
        Vector x;
        LoadVector(x, sums + (column + i) * kPanelLines + row);
        square[i] = (Words)(x * factors);
      }
      TransposeSquare(square);
      for (int64_t i = 0; i < std::min<int64_t>(kWordLanes, rows - row); ++i) {
        StoreLanes(to + (row + i) * to_row + column, (Vector)square[i], 0, columns - column);
      }
    }
  }
}

}  // namespace angel_ptm

#endif
