// Attention's products on the tensor cores: bf16 tiles of rows in shared memory, and products of a warp's 16 rows with
// them.
#ifndef ANGEL_PTM_KERNELS_CUDA_ATTENTION_TILES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ATTENTION_TILES_CUH_

#include "kernels/cuda/attention_rows.cuh"

namespace angel_ptm::cuda {

inline constexpr int kWarpRows = 16, kTileRows = kTileWarps * kWarpRows;
inline constexpr int kRowChunk = kChunkOf<BFloat16>, kRowPad = kRowChunk;

// A lane's two queries among its warp's 16; like its sums, they are 8 apart.
template <typename Problem>
APTM_DEVICE LaneQueries<2> QueriesOfLane(const Problem& p) {
  LaneQueries<2> queries;
  FindQueries<kWarpRows>(queries, p);
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    const int mine = WithinRow(p, queries.first + static_cast<int>(threadIdx.x) % kWarpLanes / 4 + 8 * i);
    queries.start[i] = p.sight.First(queries.row, mine);
    queries.end[i] = p.sight.Last(queries.row, mine);
  }
  return queries;
}

// products[16,kRows] += the warp's rows of a_tile times the rows of b_tile. Where registers are scarce, unrolling only
// kUnrolled steps of 16 keeps the compiler from loading all operands ahead.
template <int kD, int kRows, int kUnrolled>
APTM_DEVICE void MultiplyRows(float (&products)[kRows / 8][4], const std::uint16_t* a_tile,
                              const std::uint16_t* b_tile) {
  constexpr int kPitch = kD + kRowPad;
  const int lane = threadIdx.x % kWarpLanes, within = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
  APTM_UNROLL_BY(kUnrolled) for (int k = 0; k < kD; k += 16) {
    std::uint32_t a[4];
    ptx::LoadMatrix4(a, ptx::SharedAddress(a_tile + (WarpRow<kWarpRows>() + low + within) * kPitch + k + high));
    APTM_UNROLL for (int j = 0; j < kRows / 16; ++j) {
      std::uint32_t b[4];
      ptx::LoadMatrix4(b, ptx::SharedAddress(b_tile + (16 * j + high + within) * kPitch + k + low));
      const std::uint32_t even[2] = {b[0], b[1]}, odd[2] = {b[2], b[3]};
      ptx::MultiplyBf16(products[2 * j], a, even);
      ptx::MultiplyBf16(products[2 * j + 1], a, odd);
    }
  }
}

enum class Values { kAll, kFinite, kNotFinite };

// All ones in those halves of a pair that are not finite.
APTM_DEVICE std::uint32_t NotFinite(std::uint32_t pair) {
  const std::uint32_t low = (pair & 0x7f80u) == 0x7f80u ? 0xffffu : 0u;
  return low | ((pair & 0x7f800000u) == 0x7f800000u ? 0xffff0000u : 0u);
}

// A pair of values as a pass over them uses it. kFinite: zero in place of those that are not finite. kNotFinite: one in
// place of those that are not finite, zero in place of the others.
template <Values kValues>
APTM_DEVICE std::uint32_t Taken(std::uint32_t pair) {
  if constexpr (kValues == Values::kAll) return pair;
  return kValues == Values::kFinite ? pair & ~NotFinite(pair) : NotFinite(pair) & 0x3f803f80u;
}

// sums[16,kD] += weights[16,kRows], rounded to bf16, times the rows of `tile`.
template <int kD, int kRows, Values kValues>
APTM_DEVICE void AddRows(float (&sums)[kD / 8][4], const float (&weights)[kRows / 8][4], const std::uint16_t* tile) {
  const int lane = threadIdx.x % kWarpLanes, within = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
  APTM_UNROLL for (int j = 0; j < kRows / 16; ++j) {
    std::uint32_t a[4];
    APTM_UNROLL for (int i = 0; i < 4; ++i) {
      const float(&from)[4] = weights[2 * j + i / 2];
      a[i] = ptx::PackBf16(from[i % 2 * 2], from[i % 2 * 2 + 1]);
    }
    APTM_UNROLL for (int n = 0; n < kD / 16; ++n) {
      std::uint32_t b[4];
      ptx::LoadMatrix4Transposed(b,
                                 ptx::SharedAddress(tile + (16 * j + low + within) * (kD + kRowPad) + 16 * n + high));
      const std::uint32_t even[2] = {Taken<kValues>(b[0]), Taken<kValues>(b[1])};
      const std::uint32_t odd[2] = {Taken<kValues>(b[2]), Taken<kValues>(b[3])};
      ptx::MultiplyBf16(sums[2 * n], a, even);
      ptx::MultiplyBf16(sums[2 * n + 1], a, odd);
    }
  }
}

template <int kD>
APTM_DEVICE bool HasNotFinite(const float (&sums)[kD / 8][4]) {
  bool not_finite = false;
  APTM_UNROLL for (int n = 0; n < kD / 8; ++n) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) not_finite |= !(sums[n][e] - sums[n][e] == 0.0f);
  }
  return not_finite;
}

// Whether `mine` is true in any thread of the block. When this returns, all threads have read what they need from
// shared memory.
APTM_DEVICE bool AnyOfBlock(bool mine) {
  APTM_SHARED(int, warps, 1);
  if (threadIdx.x == 0) warps[0] = 0;
  __syncthreads();
  const int any = __any_sync(kAllLanes, mine);
  if (any != 0 && threadIdx.x % kWarpLanes == 0) atomicAdd(warps, 1);
  __syncthreads();
  return warps[0] != 0;
}

// to[16,d] = the warp's sums times a factor for each of a lane's two rows. They pass through `rows` of shared memory,
// which belong to the warp alone. Rows of `to` from `count` on are not stored. `copies`: `to` and its rows are aligned
// to 16 bytes.
template <int kD>
APTM_DEVICE void StoreRows(BFloat16* to, std::int64_t stride, int count, int d, bool copies, std::uint16_t* rows,
                           const float (&sums)[kD / 8][4], const float (&factor)[2]) {
  constexpr int kPitch = kD + kRowPad;
  const int lane = threadIdx.x % kWarpLanes;
  __syncwarp();
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    APTM_UNROLL for (int n = 0; n < kD / 8; ++n) {
      *reinterpret_cast<std::uint32_t*>(rows + (lane / 4 + 8 * i) * kPitch + 8 * n + lane % 4 * 2) =
          ptx::PackBf16(sums[n][2 * i] * factor[i], sums[n][2 * i + 1] * factor[i]);
    }
  }
  __syncwarp();
  const int row_chunks = d / kRowChunk;
  for (int i = lane; i < kWarpRows * row_chunks; i += kWarpLanes) {
    const int r = i / row_chunks, c = i % row_chunks * kRowChunk;
    if (r >= count) break;
    const std::uint16_t* const from = rows + r * kPitch + c;
    BFloat16* const at = to + r * stride + c;
    if (copies) {
      *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int j = 0; j < kRowChunk; ++j) at[j].bits = from[j];
    }
  }
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ATTENTION_TILES_CUH_
