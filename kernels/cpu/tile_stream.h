// A sequence of products of panels (bf16_panels.h) on AMX's tile registers. Each product's sums leave the registers
// between the first multiplications of the next product, and every step of a product carries a part of some other work.
// Otherwise two things would add to the time of the products, which take 64 cycles a step: the waits of a tile register
// (52 cycles from the last product to its sums, then 16 stores per register), and the vector instructions.
#ifndef ANGEL_PTM_KERNELS_CPU_TILE_STREAM_H_
#define ANGEL_PTM_KERNELS_CPU_TILE_STREAM_H_

#include "kernels/cpu/bf16_panels.h"

#if defined(__AMX_BF16__)

#include <immintrin.h>

namespace angel_ptm {

// TileRegisters must exist for its lifetime. Between its calls nothing else may use them.
class TileStream {
 public:
  static constexpr int64_t kParts = kTileRows;  // of the work done during a product

  // Computes (from ? from : 0) + rows times column_panel over `depth` of k. The sums [kTileRows][kTileColumns] are in
  // `to` after the next call of Multiply or Store. If `rows` <= 16, the lower halves of `from` and `to` are not
  // touched. Calls beside(part) for each part in [0, kParts), in order; by then the sums of the previous call are in
  // memory.
  template <typename Beside>
  [[gnu::always_inline]] void Multiply(float* to, const float* from, const uint32_t* row_panel,
                                       const uint32_t* column_panel, int64_t depth, int64_t rows, const Beside& beside);
  // The same without other work.
  [[gnu::always_inline]] void Multiply(float* to, const float* from, const uint32_t* row_panel,
                                       const uint32_t* column_panel, int64_t depth, int64_t rows) {
    Multiply(to, from, row_panel, column_panel, depth, rows, [](int64_t) {});
  }
  // Stores the last product's sums to memory.
  void Store() {
    if (to_ == nullptr) return;
    _tile_stored(0, to_ + SumsAt(0), kSumBytes);
    _tile_stored(1, to_ + SumsAt(1), kSumBytes);
    if (lower_) {
      _tile_stored(2, to_ + SumsAt(2), kSumBytes);
      _tile_stored(3, to_ + SumsAt(3), kSumBytes);
    }
    to_ = nullptr;
  }

 private:
  static constexpr int kSumBytes = kTileColumns * 4, kTileBytes = 64;
  static constexpr int64_t kTileWords = kWordLanes * kWordLanes;
  static constexpr int64_t SumsAt(int tile) { return (tile / 2 * kTileColumns + tile % 2) * kWordLanes; }
  // The first step, during which the sums of the previous product leave the registers.
  void Begin(const float* from, const uint32_t* row_panel, const uint32_t* column_panel, bool lower) const;

  float* to_ = nullptr;  // where the sums in the registers go, null if there are none
  bool lower_ = false;
};

// Tiles 0 to 3 are the sums of 2 x 2 squares, 4 and 5 rows, 6 and 7 columns. (GCC's macros take only literal numbers.)
[[gnu::always_inline]] inline void TileStream::Begin(const float* from, const uint32_t* row_panel,
                                                     const uint32_t* column_panel, bool lower) const {
  const bool store = to_ != nullptr, store_lower = store && lower_;
  asm volatile("" ::: "memory");  // GCC's loads of tiles do not say that they read memory
  _tile_loadd(4, row_panel, kTileBytes);
  _tile_loadd(6, column_panel, kTileBytes);
  if (store) _tile_stored(0, to_ + SumsAt(0), kSumBytes);
  if (from == nullptr) {
    _tile_zero(0);
  } else {
    _tile_loadd(0, from + SumsAt(0), kSumBytes);
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, column_panel + kTileWords, kTileBytes);
  if (store) _tile_stored(1, to_ + SumsAt(1), kSumBytes);
  if (from == nullptr) {
    _tile_zero(1);
  } else {
    _tile_loadd(1, from + SumsAt(1), kSumBytes);
  }
  _tile_dpbf16ps(1, 4, 7);
  if (store_lower) _tile_stored(2, to_ + SumsAt(2), kSumBytes);
  if (store_lower) _tile_stored(3, to_ + SumsAt(3), kSumBytes);
  if (!lower) return;
  _tile_loadd(5, row_panel + kTileWords, kTileBytes);
  if (from == nullptr) {
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(2, from + SumsAt(2), kSumBytes);
    _tile_loadd(3, from + SumsAt(3), kSumBytes);
  }
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

template <typename Beside>
[[gnu::always_inline]] inline void TileStream::Multiply(float* to, const float* from, const uint32_t* row_panel,
                                                        const uint32_t* column_panel, int64_t depth, int64_t rows,
                                                        const Beside& beside) {
  const int64_t steps = PanelWords(depth) / kWordLanes;
  const int64_t parts = steps < 3 ? kParts : (kParts + steps - 2) / (steps - 1);  // of one step
  const bool lower = rows > kWordLanes;
  Begin(from, row_panel, column_panel, lower);
  int64_t part = 0;
  for (int64_t step = 1; step < steps; ++step) {
    row_panel += 2 * kTileWords;
    column_panel += 2 * kTileWords;
    _tile_loadd(4, row_panel, kTileBytes);
    _tile_loadd(6, column_panel, kTileBytes);
    _tile_loadd(7, column_panel + kTileWords, kTileBytes);
    if (lower) _tile_loadd(5, row_panel + kTileWords, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (lower) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    for (const int64_t end = part + parts < kParts ? part + parts : kParts; part < end; ++part) beside(part);
  }
  for (; part < kParts; ++part) beside(part);
  to_ = to;
  lower_ = lower;
}

}  // namespace angel_ptm

#endif

#endif  // ANGEL_PTM_KERNELS_CPU_TILE_STREAM_H_
