// A block's tile of a matrix product of bf16 operands, fp32 sums, by mma.sync and cp.async, for every GPU from sm_80
// on.
//
// A block of 8 warps computes a tile of 128 x 128, a warp 64 x 32, in steps of 32 k through a ring of 3 stages in
// shared memory (61 KB). Rows in shared memory are 16 bytes longer than a step, so that the eight rows of an ldmatrix
// lie in different banks. A transposed operand keeps its layout and is transposed by ldmatrix.trans. Extents that
// 16-byte copies cannot handle (not multiples of 8) are copied element by element. The sum over k of an element is in
// order, whatever M and N are.
#ifndef ANGEL_PTM_KERNELS_CUDA_MATMUL_TILES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_MATMUL_TILES_CUH_

#include "kernels/cuda/matrix.cuh"

namespace angel_ptm::cuda {

inline constexpr int kMatmulStep = 32;

namespace matmul {

constexpr int kStages = 3, kPad = 8, kChunk = kChunkOf<BFloat16>;
constexpr int kWarpRows = 64, kWarpColumns = 32, kColumnWarps = kMatmulTile / kWarpColumns;
// The larger of the two layouts, [128][40] and [32][136].
constexpr int kOperandElements = kMatmulTile * (kMatmulStep + kPad);
static_assert(kMatmulStep * (kMatmulTile + kPad) <= kOperandElements);

}  // namespace matmul

template <>
inline constexpr std::size_t kMatmulSharedBytes<BFloat16> = 2 * matmul::kStages* matmul::kOperandElements *
                                                            sizeof(std::uint16_t);

namespace matmul {

// to[kRows][kColumns + kPad] = the part of `from` at (row, column). Not unrolled: the common part of the addresses
// would be kept in registers during all steps.
template <int kRows, int kColumns>
APTM_DEVICE void LoadTile(std::uint16_t* to, const Matrix<BFloat16>& from, std::int64_t row, std::int64_t column) {
  constexpr int kRowChunks = kColumns / kChunk;
  APTM_UNROLL_BY(1) for (int i = threadIdx.x; i < kRows * kRowChunks; i += kMatmulThreads) {
    const int r = i / kRowChunks, c = i % kRowChunks * kChunk;
    std::uint16_t* const at = to + r * (kColumns + kPad) + c;
    const std::int64_t source = (row + r) * from.stride + column + c;
    const bool has_row = row + r < from.rows;
    if (from.is_aligned) {
      const bool reads = has_row && column + c < from.columns;
      ptx::CopyAsync16(ptx::SharedAddress(at), from.data + (reads ? source : 0), reads);
    } else {
      APTM_UNROLL_BY(1) for (int j = 0; j < kChunk; ++j) {
        at[j] = has_row && column + c + j < from.columns ? from.data[source + j].bits : std::uint16_t{0};
      }
    }
  }
}

// Loads a step of op(a), with rows along m, or of op(b), with rows along n, in its layout: [128][32] in rows of k, else
// [32][128].
template <bool kRowsOfK>
APTM_DEVICE void LoadStep(std::uint16_t* to, const Matrix<BFloat16>& from, std::int64_t outer, std::int64_t k) {
  if constexpr (kRowsOfK) {
    LoadTile<kMatmulTile, kMatmulStep>(to, from, outer, k);
  } else {
    LoadTile<kMatmulStep, kMatmulTile>(to, from, k, outer);
  }
}

// Loads the fragment of 16 outer x 16 k at (outer, k). kFirstK says whether matrix 1 is the next 8 of k (for b) or of
// outer (for a).
template <bool kRowsOfK, bool kFirstK>
APTM_DEVICE void LoadFragment(std::uint32_t (&r)[4], const std::uint16_t* tile, int outer, int k) {
  const int lane = threadIdx.x % kWarpLanes, within = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
  const int outer_at = outer + (kFirstK ? high : low), k_at = k + (kFirstK ? low : high);
  if constexpr (kRowsOfK) {
    ptx::LoadMatrix4(r, ptx::SharedAddress(tile + (outer_at + within) * (kMatmulStep + kPad) + k_at));
  } else {
    ptx::LoadMatrix4Transposed(r, ptx::SharedAddress(tile + (k_at + within) * (kMatmulTile + kPad) + outer_at));
  }
}

template <bool kTransA, bool kTransB>
APTM_DEVICE void MultiplyStep(float (&sums)[4][4][4], const std::uint16_t* a_tile, const std::uint16_t* b_tile) {
  const int warp = threadIdx.x / kWarpLanes;
  const int row = warp / kColumnWarps * kWarpRows, column = warp % kColumnWarps * kWarpColumns;
  APTM_UNROLL for (int k = 0; k < kMatmulStep; k += 16) {
    std::uint32_t a[4][4], b[2][4];
    APTM_UNROLL for (int i = 0; i < 4; ++i) LoadFragment<!kTransA, false>(a[i], a_tile, row + 16 * i, k);
    APTM_UNROLL for (int j = 0; j < 2; ++j) LoadFragment<kTransB, true>(b[j], b_tile, column + 16 * j, k);
    APTM_UNROLL for (int i = 0; i < 4; ++i) {
      APTM_UNROLL for (int j = 0; j < 4; ++j) {
        const std::uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        ptx::MultiplyBf16(sums[i][j], a[i], pair);
      }
    }
  }
}

template <typename T>
APTM_DEVICE void StoreTile(const Result& c, const float (&sums)[4][4][4], std::int64_t row, std::int64_t column) {
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  row += warp / kColumnWarps * kWarpRows + lane / 4;
  column += warp % kColumnWarps * kWarpColumns + lane % 4 * 2;
  APTM_UNROLL for (int i = 0; i < 4; ++i) {
    APTM_UNROLL for (int half = 0; half < 2; ++half) {
      const std::int64_t r = row + 16 * i + 8 * half;
      if (r < c.row_begin || r >= c.row_end) continue;
      APTM_UNROLL for (int j = 0; j < 4; ++j) {
        const std::int64_t at = column + 8 * j;
        if (at >= c.columns) continue;
        StorePair(static_cast<T*>(c.data) + r * c.columns + at, sums[i][j][2 * half], sums[i][j][2 * half + 1],
                  at + 1 < c.columns, c.accumulate);
      }
    }
  }
}

}  // namespace matmul

// Computes the tile at (row, column) of c (+)= op(a) op(b), over k of [0, k). `shared` has kMatmulSharedBytes<BFloat16>
// bytes.
template <bool kTransA, bool kTransB>
APTM_DEVICE void MultiplyTile(const Result& c, const Matrix<BFloat16>& a, const Matrix<BFloat16>& b, std::int64_t row,
                              std::int64_t column, std::int64_t k, unsigned char* shared) {
  std::uint16_t* const ring = reinterpret_cast<std::uint16_t*>(shared);
  const int steps = static_cast<int>((k + kMatmulStep - 1) / kMatmulStep);
  const auto load = [&](int step) {
    std::uint16_t* const stage = ring + step % matmul::kStages * 2 * matmul::kOperandElements;
    if (step < steps) {
      const std::int64_t at = static_cast<std::int64_t>(step) * kMatmulStep;
      matmul::LoadStep<!kTransA>(stage, a, row, at);
      matmul::LoadStep<kTransB>(stage + matmul::kOperandElements, b, column, at);
    }
    ptx::CopyAsyncCommit();  // empty groups, too, because the wait counts groups
  };
  for (int step = 0; step < matmul::kStages - 1; ++step) load(step);
  float sums[4][4][4] = {};
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<matmul::kStages - 2>();
    __syncthreads();  // all of this step has arrived, and the stage of the last one is free
    load(step + matmul::kStages - 1);
    const std::uint16_t* const stage = ring + step % matmul::kStages * 2 * matmul::kOperandElements;
    matmul::MultiplyStep<kTransA, kTransB>(sums, stage, stage + matmul::kOperandElements);
  }
  if (c.is_bf16) return matmul::StoreTile<BFloat16>(c, sums, row, column);
  matmul::StoreTile<float>(c, sums, row, column);
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_MATMUL_TILES_CUH_
