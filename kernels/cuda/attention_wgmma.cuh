// Attention's products by wgmma: rows of heads in swizzled tiles that tensor copies fill, and products of a warpgroup's
// 64 rows with them. A block has two warpgroups that multiply, 8 warps of 16 rows each as in attention_rows.cuh, and
// after them a third, of which a single thread copies.
#ifndef ANGEL_PTM_KERNELS_CUDA_ATTENTION_WGMMA_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ATTENTION_WGMMA_CUH_

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma_ring.cuh"

namespace angel_ptm::cuda {

inline constexpr int kGroupRows = 64, kWgmmaThreads = kTileThreads + kWarpgroup;
static_assert(2 * kGroupRows == kTileRows && 2 * kWarpgroup == kTileThreads);
inline constexpr int kLaunchRegisters = 168, kCopyRegisters = 40, kMultiplyRegisters = 232;
static_assert(kCopyRegisters + 2 * kMultiplyRegisters <= 3 * kLaunchRegisters);

// For a head dimension padded to kD: tiles of 64 columns, and the number of elements of these columns.
template <int kD>
inline constexpr int kColumnTiles = (kD + 63) / 64;
template <int kD>
inline constexpr int kSwizzledD = kColumnTiles<kD> * 64;
template <int kD, int kRows>
inline constexpr std::uint32_t kTileBytes = kColumnTiles<kD>* kRows* kSwizzleRowBytes;

// The map of [b, rows, heads, d], with tokens `stride` elements apart, in boxes of 64 elements of a head and box_rows
// tokens. Rows of another b and columns of another head count as outside. Host only.
inline TensorMap MapOfHeads(const BFloat16* data, std::int64_t d, std::int64_t heads, std::int64_t rows, std::int64_t b,
                            std::int64_t stride, std::uint32_t box_rows) {
  const auto extent = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
  const auto bytes = [](std::int64_t elements) { return static_cast<std::uint64_t>(elements) * sizeof(BFloat16); };
  return MapOf<4>(data, {extent(d), extent(heads), extent(rows), extent(b)},
                  {bytes(d), bytes(stride), bytes(rows * stride)}, {kSwizzleColumns, 1, box_rows, 1});
}

// Loads kRows rows of a head, from row `first` of `row` on, as tiles of 64 columns one after the other.
template <int kD, int kRows>
APTM_DEVICE void LoadHead(std::uint32_t to, const TensorMap* map, std::uint32_t full, std::int64_t head, int first,
                          std::int64_t row) {
  for (int i = 0; i < kColumnTiles<kD>; ++i) {
    ptx::TensorLoad4d(to + i * kRows * kSwizzleRowBytes, map, full, i * static_cast<int>(kSwizzleColumns),
                      static_cast<int>(head), first, static_cast<int>(row));
  }
}

APTM_DEVICE int GroupOfThread() { return static_cast<int>(threadIdx.x) / kWarpgroup; }
// Where the warpgroup's rows begin in a tile of kTileRows rows.
APTM_DEVICE std::uint32_t GroupRows(std::uint32_t tile) {
  return tile + GroupOfThread() * kGroupRows * kSwizzleRowBytes;
}

// products[64,kRows] = the warpgroup's rows at `a`, in a tile of kTileRows rows, times those of tile b. The caller
// commits.
template <int kD, int kRows>
APTM_DEVICE void MultiplyHeads(float (&products)[kRows / 2], std::uint32_t a, std::uint32_t b) {
  ptx::WgmmaFence();
  APTM_UNROLL for (std::uint32_t k = 0; k < kD / 16; ++k) {
    const std::uint64_t a_at = DescriptorAt<true>(a + k / 4 * kTileRows * kSwizzleRowBytes, k % 4, 0);
    const std::uint64_t b_at = DescriptorAt<true>(b + k / 4 * kRows * kSwizzleRowBytes, k % 4, 0);
    if constexpr (kRows == 64) {
      ptx::WgmmaM64N64<0, 0>(products, a_at, b_at, k > 0);
    } else {
      ptx::WgmmaM64N128<0, 0>(products, a_at, b_at, k > 0);
    }
  }
}

// sums[64,kColumns] (+)= weights[64,kRows] times tile b's rows. The caller commits.
template <int kColumns, int kRows>
APTM_DEVICE void AddHeads(float (&sums)[kColumns / 2], const std::uint32_t (&weights)[kRows / 16][4], std::uint32_t b,
                          bool accumulates) {
  ptx::WgmmaFence();
  APTM_UNROLL for (std::uint32_t k = 0; k < kRows / 16; ++k) {
    const std::uint64_t b_at = DescriptorAt<false>(b, k, kRows * kSwizzleRowBytes);
    if constexpr (kColumns == 64) {
      ptx::WgmmaM64N64<1>(sums, weights[k], b_at, accumulates || k > 0);
    } else {
      ptx::WgmmaM64N128<1>(sums, weights[k], b_at, accumulates || k > 0);
    }
  }
}

// Rounds products to bf16 in the layout that AddHeads takes.
template <int kRows>
APTM_DEVICE void PackWeights(std::uint32_t (&weights)[kRows / 16][4], const float (&products)[kRows / 2]) {
  APTM_UNROLL for (int i = 0; i < kRows / 4; ++i) {
    weights[i / 4][i % 4] = ptx::PackBf16(products[2 * i], products[2 * i + 1]);
  }
}

// The column of element i of a thread's part of the products, and which of the lane's two rows the element is in.
APTM_DEVICE int ColumnOf(int i) { return i / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2; }
APTM_DEVICE int RowOf(int i) { return i / 2 % 2; }

template <int kCount>
APTM_DEVICE bool AnyNotFinite(const float (&sums)[kCount]) {
  bool not_finite = false;
  APTM_UNROLL for (int i = 0; i < kCount; ++i) not_finite |= !(sums[i] - sums[i] == 0.0f);
  return not_finite;
}

// Replaces the elements of full tiles by those that a pass uses (Taken). Both warpgroups do so, before either
// multiplies.
inline constexpr int kReplacedBarrier = 3;
template <std::uint32_t kBytes>
APTM_DEVICE void ReplaceValues(unsigned char* tile, Values values) {
  APTM_UNROLL_BY(1) for (std::uint32_t i = threadIdx.x; i < kBytes / 4; i += kTileThreads) {
    std::uint32_t* const pair = reinterpret_cast<std::uint32_t*>(tile) + i;
    *pair = values == Values::kFinite ? Taken<Values::kFinite>(*pair) : Taken<Values::kNotFinite>(*pair);
  }
  ptx::FenceProxyAsync();
  ptx::BarrierSync(kReplacedBarrier, kTileThreads);
}

// Stores rows [first + 64 of the warpgroup] of a head = its sums times a factor for each of a lane's rows. They pass
// through the warpgroup's rows of a tile of kTileRows rows, which only its own, finished products have read. `tile` is
// an address in `shared`.
template <int kColumns>
APTM_DEVICE void StoreHeads(const TensorMap* map, std::int64_t head, int first, std::int64_t row, std::uint32_t tile,
                            unsigned char* shared, const float (&sums)[kColumns / 2], const float (&factor)[2]) {
  const int group = GroupOfThread(), lane = threadIdx.x % kWarpLanes;
  unsigned char* const rows = shared + (tile - ptx::SharedAddress(shared));
  ptx::BarrierSync(1 + group, kWarpgroup);
  APTM_UNROLL for (int i = 0; i < kColumns / 2; i += 2) {
    const int r = WarpRow<kWarpRows>() + lane / 4 + 8 * RowOf(i), column = ColumnOf(i);
    unsigned char* const at = rows + (column / 64 * kTileRows + r) * static_cast<int>(kSwizzleRowBytes);
    *reinterpret_cast<std::uint32_t*>(at + (column % 64 * 2 ^ r % 8 * 16)) =
        ptx::PackBf16(sums[i] * factor[RowOf(i)], sums[i + 1] * factor[RowOf(i)]);
  }
  ptx::FenceProxyAsync();
  ptx::BarrierSync(1 + group, kWarpgroup);
  if (threadIdx.x % kWarpgroup != 0) return;
  for (int i = 0; i < kColumns / 64; ++i) {
    ptx::TensorStore4d(map, GroupRows(tile) + i * kTileRows * kSwizzleRowBytes, i * 64, static_cast<int>(head),
                       first + group * kGroupRows, static_cast<int>(row));
  }
  ptx::BulkCommit();
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ATTENTION_WGMMA_CUH_
