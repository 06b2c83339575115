// Attention's products by FMA: fp32 tiles of rows in shared memory, and products of a thread's rows with them.
//
// A block of 8 warps owns 64 rows, a warp 8 of them and half a warp 4. A lane handles every 16th row of the other side,
// of which a tile has 32, or every 16th pair of columns of the sums. A row in shared memory is 16 bytes longer than kD,
// so that eight rows from which eight lanes read 16 bytes each lie in different banks; what half a warp reads of its
// own rows is a single address.
#ifndef ANGEL_PTM_KERNELS_CUDA_ATTENTION_FMA_TILES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ATTENTION_FMA_TILES_CUH_

#include "kernels/cuda/attention_rows.cuh"

namespace angel_ptm::cuda::fma_attention {

inline constexpr int kOwn = 4, kLanes = 16, kWarpRows = kWarpLanes / kLanes * kOwn, kRows = kTileWarps * kWarpRows;
inline constexpr int kOthers = 32, kLaneOthers = kOthers / kLanes, kStages = 2;
// A tile of weights: own rows by other rows.
inline constexpr int kWeightPitch = kOthers + 4, kWeightElements = kRows * kWeightPitch;

template <int kD>
inline constexpr int kPitch = kRowPitch<float, kD>;
template <int kD>
inline constexpr int kOwnElements = kRows* kPitch<kD>;
template <int kD>
inline constexpr int kOtherElements = kOthers* kPitch<kD>;

using Pairs = float[kOwn][kLaneOthers];  // a value per pair of a lane's own rows and other rows
template <int kD>
using Sums = float[kOwn][kD / kLanes];  // of a lane's own rows; columns Column() + 32 i and the one after

APTM_DEVICE int Lane() { return static_cast<int>(threadIdx.x) % kLanes; }
// The first of the lane's own rows in the block's tile.
APTM_DEVICE int OwnRow() { return static_cast<int>(threadIdx.x) / kLanes * kOwn; }
APTM_DEVICE int Column() { return Lane() * 2; }

APTM_DEVICE void LoadQuad(float (&x)[4], const float* from) {
  const float4 quad = *reinterpret_cast<const float4*>(from);
  x[0] = quad.x, x[1] = quad.y, x[2] = quad.z, x[3] = quad.w;
}

// Dot products of d columns: the lane's own rows of `own` with rows Lane() + 16 j of `others`.
template <int kD>
APTM_DEVICE void MultiplyRows(Pairs& products, const float* own, const float* others, int d) {
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) { APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) products[i][j] = 0; }
  APTM_UNROLL_BY(2) for (int k = 0; k < d; k += 4) {
    float a[kOwn][4], b[kLaneOthers][4];
    APTM_UNROLL for (int i = 0; i < kOwn; ++i) LoadQuad(a[i], own + (OwnRow() + i) * kPitch<kD> + k);
    APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) LoadQuad(b[j], others + (Lane() + kLanes * j) * kPitch<kD> + k);
    APTM_UNROLL for (int l = 0; l < 4; ++l) {
      APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
        APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) products[i][j] = fmaf(a[i][l], b[j][l], products[i][j]);
      }
    }
  }
}

// Stores the own rows of the tile of weights; only the same warp reads them.
APTM_DEVICE void StoreWeights(float* weights, const Pairs& pairs) {
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) {
      weights[(OwnRow() + i) * kWeightPitch + Lane() + kLanes * j] = pairs[i][j];
    }
  }
}

// sums += weights of own rows times the rows of `others`. If `masked`, pairs for which sees(i, other) is false are
// skipped: a weight of zero would not hide NaN.
template <int kD, typename Sees>
APTM_DEVICE void AddRows(Sums<kD>& sums, const float* weights, const float* others, bool masked, const Sees& sees) {
  APTM_UNROLL_BY(1) for (int first = 0; first < kOthers; first += 4) {
    float w[kOwn][4];
    APTM_UNROLL for (int i = 0; i < kOwn; ++i) LoadQuad(w[i], weights + (OwnRow() + i) * kWeightPitch + first);
    APTM_UNROLL for (int l = 0; l < 4; ++l) {
      const float* const row = others + (first + l) * kPitch<kD> + Column();
      float x[kD / kLanes];
      APTM_UNROLL for (int n = 0; n < kD / kLanes; n += 2) {
        const float2 pair = *reinterpret_cast<const float2*>(row + n * kLanes);
        x[n] = pair.x, x[n + 1] = pair.y;
      }
      APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
        if (masked && !sees(i, first + l)) continue;
        APTM_UNROLL for (int n = 0; n < kD / kLanes; ++n) sums[i][n] = fmaf(w[i][l], x[n], sums[i][n]);
      }
    }
  }
}

template <int kD>
APTM_DEVICE void Clear(Sums<kD>& sums) {
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) { APTM_UNROLL for (int n = 0; n < kD / kLanes; ++n) sums[i][n] = 0; }
}

// to[rows of the block][d] = sums times a factor for each of the lane's rows. Rows from `count` on are not stored.
// in_pairs: `to` and its rows are aligned to 8 bytes.
template <int kD>
APTM_DEVICE void StoreRows(float* to, std::int64_t stride, int count, int d, bool in_pairs, const Sums<kD>& sums,
                           const float (&factor)[kOwn]) {
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    if (OwnRow() + i >= count) break;
    APTM_UNROLL for (int n = 0; n < kD / kLanes; n += 2) {
      const int column = Column() + n * kLanes;
      if (column >= d) break;
      float* const at = to + (OwnRow() + i) * stride + column;
      const float2 pair = {sums[i][n] * factor[i], sums[i][n + 1] * factor[i]};
      if (in_pairs) {
        *reinterpret_cast<float2*>(at) = pair;
      } else {
        at[0] = pair.x, at[1] = pair.y;
      }
    }
  }
}

// The maximum, or the sum, over the lanes of a row, in all of them.
APTM_DEVICE float RowMax(float x) {
  APTM_UNROLL for (int by = 1; by < kLanes; by *= 2) {
    const float other = __shfl_xor_sync(kAllLanes, x, by);
    x = other > x ? other : x;
  }
  return x;
}
APTM_DEVICE float RowSum(float x) {
  APTM_UNROLL for (int by = 1; by < kLanes; by *= 2) x += __shfl_xor_sync(kAllLanes, x, by);
  return x;
}

}  // namespace angel_ptm::cuda::fma_attention

#endif  // ANGEL_PTM_KERNELS_CUDA_ATTENTION_FMA_TILES_CUH_
