// The products of attention_tiles.h for operands that count as bf16 numbers although they are kept as fp32: on
// processors with tile registers (AMX) they are packed into bf16 and multiplied there, elsewhere they are multiplied as
// they are.
#ifndef ANGEL_PTM_KERNELS_CPU_ROUNDED_TILES_H_
#define ANGEL_PTM_KERNELS_CPU_ROUNDED_TILES_H_

#include "kernels/cpu/attention_tiles.h"

namespace angel_ptm {

// Whether packing rounds the operands. Where it does not they must be bf16 numbers already.
#if defined(__AMX_BF16__)
inline constexpr bool kTilesRound = true;
#else
inline constexpr bool kTilesRound = false;
#endif

// MultiplyTiles of bf16 numbers: a_row or a_k is 1, k is at most kHeadDimMax, and k or n at most kAttentionTile. Takes
// 64 KiB of the stack. Called between TileRegisters' constructor and destructor (bf16_panels.h).
void MultiplyRoundedTiles(const TileProduct& product);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_ROUNDED_TILES_H_
