// c[M,N] (+)= op(a) op(b), bf16 operands, fp32 sums, c in bf16 or fp32: mma.sync and cp.async, for every GPU from sm_80
// on.
//
// Bytes: 2 (M K + K N) + M N elements of c once, from the cache M N K / 64; FLOPs: 2 M N K. Limit: the tensor cores, of
// which mma.sync reaches about 65 % on sm_90. A block of 8 warps makes a tile of 128 x 128, a warp 64 x 32, in steps of
// 32 k through a ring of 3 stages in shared memory (61 KB). Rows in shared memory are 16 bytes longer than a step, so
// that the eight rows of an ldmatrix lie in different banks. A transposed operand keeps its order and is turned by
// ldmatrix.trans. Extents that 16-byte copies cannot take (not multiples of 8) go element by element. The sum over k of
// an element is in order whatever M and N are.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/matmul.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kThreads = 256, kTile = 128, kStep = 32, kStages = 3, kPad = 8, kChunk = 8;
constexpr int kWarpRows = 64, kWarpColumns = 32, kColumnWarps = kTile / kWarpColumns;
constexpr int kOperandElements = kTile * (kStep + kPad);  // the longer of the two orders, [128][40] and [32][136]
static_assert(kStep * (kTile + kPad) <= kOperandElements);
constexpr std::size_t kSharedBytes = 2 * kStages * kOperandElements * sizeof(std::uint16_t);

struct Matrix {
  const BFloat16* data;
  std::int64_t rows, columns;  // as it lies
};

// to[kRows][kColumns + kPad] = the part of `from` at (row, column), zero outside.
template <int kRows, int kColumns, bool kCopies>
APTM_DEVICE void LoadTile(std::uint16_t* to, const Matrix& from, std::int64_t row, std::int64_t column) {
  constexpr int kRowChunks = kColumns / kChunk;
  for (int i = threadIdx.x; i < kRows * kRowChunks; i += kThreads) {
    const int r = i / kRowChunks, c = i % kRowChunks * kChunk;
    std::uint16_t* const at = to + r * (kColumns + kPad) + c;
    const std::int64_t source = (row + r) * from.columns + column + c;
    const bool has_row = row + r < from.rows;
    if constexpr (kCopies) {
      const bool reads = has_row && column + c < from.columns;
      ptx::CopyAsync16(ptx::SharedAddress(at), from.data + (reads ? source : 0), reads);
    } else {
      for (int j = 0; j < kChunk; ++j) {
        at[j] = has_row && column + c + j < from.columns ? from.data[source + j].bits : std::uint16_t{0};
      }
    }
  }
}

// A step of op(a), rows of m, or of op(b), rows of n, as it lies: [128][32] in rows of k, else [32][128].
template <bool kRowsOfK, bool kCopies>
APTM_DEVICE void LoadStep(std::uint16_t* to, const Matrix& from, std::int64_t outer, std::int64_t k) {
  if constexpr (kRowsOfK) {
    LoadTile<kTile, kStep, kCopies>(to, from, outer, k);
  } else {
    LoadTile<kStep, kTile, kCopies>(to, from, k, outer);
  }
}

// The fragment of 16 outer x 16 k at (outer, k). first_k says whether matrix 1 is the next 8 k (for b) or outer (for
// a).
template <bool kRowsOfK, bool kFirstK>
APTM_DEVICE void LoadFragment(std::uint32_t (&r)[4], const std::uint16_t* tile, int outer, int k) {
  const int lane = threadIdx.x % kWarpLanes, within = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
  const int outer_at = outer + (kFirstK ? high : low), k_at = k + (kFirstK ? low : high);
  if constexpr (kRowsOfK) {
    ptx::LoadMatrix4(r, ptx::SharedAddress(tile + (outer_at + within) * (kStep + kPad) + k_at));
  } else {
    ptx::LoadMatrix4Transposed(r, ptx::SharedAddress(tile + (k_at + within) * (kTile + kPad) + outer_at));
  }
}

template <bool kTransA, bool kTransB>
APTM_DEVICE void MultiplyStep(float (&sums)[4][4][4], const std::uint16_t* a_tile, const std::uint16_t* b_tile) {
  const int warp = threadIdx.x / kWarpLanes;
  const int row = warp / kColumnWarps * kWarpRows, column = warp % kColumnWarps * kWarpColumns;
  APTM_UNROLL for (int k = 0; k < kStep; k += 16) {
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
APTM_DEVICE void StoreTile(T* c, const float (&sums)[4][4][4], std::int64_t m, std::int64_t n, bool accumulate) {
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile + warp / kColumnWarps * kWarpRows + lane / 4;
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * kTile + warp % kColumnWarps * kWarpColumns + lane % 4 * 2;
  APTM_UNROLL for (int i = 0; i < 4; ++i) {
    APTM_UNROLL for (int j = 0; j < 4; ++j) {
      APTM_UNROLL for (int e = 0; e < 4; ++e) {
        const std::int64_t r = row + 16 * i + e / 2 * 8, at_column = column + 8 * j + e % 2;
        if (r >= m || at_column >= n) continue;
        T* const at = c + r * n + at_column;
        StoreRounded(at, accumulate ? Widened(*at) + sums[i][j][e] : sums[i][j][e]);
      }
    }
  }
}

template <bool kTransA, bool kTransB, bool kCopies, typename T>
__global__ void __launch_bounds__(kThreads)
    Matmul(T* c, Matrix a, Matrix b, std::int64_t m, std::int64_t n, std::int64_t k, bool accumulate) {
  APTM_DYNAMIC_SHARED(shared);
  std::uint16_t* const ring = reinterpret_cast<std::uint16_t*>(shared);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile,
                     column = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int steps = static_cast<int>((k + kStep - 1) / kStep);
  const auto load = [&](int step) {
    std::uint16_t* const stage = ring + step % kStages * 2 * kOperandElements;
    if (step < steps) {
      LoadStep<!kTransA, kCopies>(stage, a, row, static_cast<std::int64_t>(step) * kStep);
      LoadStep<kTransB, kCopies>(stage + kOperandElements, b, column, static_cast<std::int64_t>(step) * kStep);
    }
    ptx::CopyAsyncCommit();  // empty ones too: groups are counted
  };
  for (int step = 0; step < kStages - 1; ++step) load(step);
  float sums[4][4][4] = {};
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<kStages - 2>();
    __syncthreads();  // all of this step is there, and the stage of the last one is free
    load(step + kStages - 1);
    const std::uint16_t* const stage = ring + step % kStages * 2 * kOperandElements;
    MultiplyStep<kTransA, kTransB>(sums, stage, stage + kOperandElements);
  }
  StoreTile(c, sums, m, n, accumulate);
}

// fn(std::bool_constant) for a flag known at run time.
template <bool kFlag>
struct Flag {
  static constexpr bool kValue = kFlag;
};
template <typename Fn>
void WithFlag(bool flag, const Fn& fn) {
  if (flag) return fn(Flag<true>());
  fn(Flag<false>());
}

}  // namespace

void LaunchMatmul(const MatmulArgs& args, const LaunchContext& context) {
  const auto tiles = [](std::int64_t extent) { return static_cast<unsigned>((extent + kTile - 1) / kTile); };
  const LaunchShape shape = {
      .grid = {.x = tiles(args.n), .y = tiles(args.m)}, .block = {.x = kThreads}, .shared_bytes = kSharedBytes};
  const Matrix a = {args.a.as<BFloat16>(), args.trans_a ? args.k : args.m, args.trans_a ? args.m : args.k};
  const Matrix b = {args.b.as<BFloat16>(), args.trans_b ? args.n : args.k, args.trans_b ? args.k : args.n};
  const bool copies = a.columns % kChunk == 0 && b.columns % kChunk == 0;
  WithElements(args.c.dtype, [&](auto element) {
    using T = decltype(element);
    WithFlag(args.trans_a, [&](auto trans_a) {
      WithFlag(args.trans_b, [&](auto trans_b) {
        WithFlag(copies, [&](auto with_copies) {
          Launch(shape, context,
                 &Matmul<decltype(trans_a)::kValue, decltype(trans_b)::kValue, decltype(with_copies)::kValue, T>,
                 args.c.as<T>(), a, b, args.m, args.n, args.k, args.accumulate);
        });
      });
    });
  });
}

}  // namespace angel_ptm::cuda
