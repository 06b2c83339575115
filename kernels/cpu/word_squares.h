// Squares of 32-bit words, one vector per line, and their transposition in registers.
#ifndef ANGEL_PTM_KERNELS_CPU_WORD_SQUARES_H_
#define ANGEL_PTM_KERNELS_CPU_WORD_SQUARES_H_

#include <cstdint>
#include <utility>

#include "kernels/cpu/bf16_panels.h"

namespace angel_ptm {

using Words = uint32_t __attribute__((vector_size(kWordLanes * 4), aligned(4), may_alias));

// Exchanges the off-diagonal squares of size kDistance of a square matrix; doing so for all distances in turn
// transposes it. Must be inlined: otherwise the matrix would go through memory.
template <int kDistance, int... kLane>
[[gnu::always_inline]] inline void ExchangeSquares(Words (&rows)[kWordLanes], std::integer_sequence<int, kLane...>) {
#pragma GCC unroll 16
  for (int i = 0; i < kWordLanes; ++i) {
    if (i & kDistance) continue;
    const Words low = rows[i], high = rows[i + kDistance];
    rows[i] = __builtin_shufflevector(low, high, ((kLane & kDistance) ? kWordLanes + kLane - kDistance : kLane)...);
    rows[i + kDistance] =
        __builtin_shufflevector(low, high, ((kLane & kDistance) ? kWordLanes + kLane : kLane + kDistance)...);
  }
}

[[gnu::always_inline]] inline void TransposeSquare(Words (&rows)[kWordLanes]) {
  constexpr auto lanes = std::make_integer_sequence<int, kWordLanes>();
  if constexpr (kWordLanes > 8) ExchangeSquares<8>(rows, lanes);
  if constexpr (kWordLanes > 4) ExchangeSquares<4>(rows, lanes);
  ExchangeSquares<2>(rows, lanes);
  ExchangeSquares<1>(rows, lanes);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_WORD_SQUARES_H_
