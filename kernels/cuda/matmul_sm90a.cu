// c[M,N] (+)= op(a) op(b), bf16 operands, fp32 sums, c in bf16 or fp32: wgmma and TMA, for sm_90a alone. The order of a
// sum over k is that of the instruction, 16 at a time, whatever M and N are.
//
// Bytes: 2 (M K + K N) + M N elements of c once, from the cache M N K / 43; FLOPs: 2 M N K. Limit: the tensor cores.
//
// As many blocks as an H100 has SMs go over tiles of 128 x 256, eight tiles high at a time so that operands stay in the
// cache. A block has three warpgroups. The first gives back its registers; one thread of it copies steps of 64 k
// through a ring of 4 stages (192 KB), ahead of the others and over the borders of tiles. The other two multiply, each
// 64 x 256 as two products of 128 columns, and store from their registers while the next tile is on its way. A stage is
// full when its bytes are there, and free when the 8 warps that multiply have waited for the products that read it, one
// step later.
//
// Operands lie in shared memory as they do in device memory, by atoms of 64 x 64 with the 128-byte swizzle: rows of k,
// or rows of m or n, which the instruction transposes.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma_ring.cuh"
#include "kernels/ops/matmul.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kRows = 128, kColumns = 256, kStep = 64, kStages = 4, kBlocksMax = 132;
constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kRegisters = 168, kProducerRegisters = 40, kConsumerRegisters = 232;  // at launch, then
static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (1 + kConsumers) * kRegisters);
constexpr std::uint32_t kAtomSide = kSwizzleColumns, kAtomBytes = kAtomSide * kSwizzleRowBytes;
constexpr std::uint32_t kABytes = kRows / kAtomSide * kAtomBytes, kBBytes = kColumns / kAtomSide * kAtomBytes;
constexpr std::uint32_t kStageBytes = kABytes + kBBytes;
using StepRing = Ring<kStages, kStageBytes>;
constexpr std::size_t kSharedBytes = StepRing::kBytes + kSwizzleAtomBytes;

struct Tiles {
  int high, wide, steps;
  std::int64_t count() const { return static_cast<std::int64_t>(high) * wide; }
};

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
// On other architectures the kernel is there, so that the library links, and does nothing.
template <bool kTransA, bool kTransB>
APTM_DEVICE void Multiply(const Result&, const TensorMap*, const TensorMap*, const Tiles&) {}
#else

constexpr int kHigh = 8;  // tiles

struct Place {
  int row, column;
};
APTM_DEVICE Place PlaceOf(const Tiles& tiles, int tile) {
  const int first = tile / (kHigh * tiles.wide) * kHigh, within = tile % (kHigh * tiles.wide);
  const int high = tiles.high - first < kHigh ? tiles.high - first : kHigh;
  return {(first + within % high) * kRows, within / high * kColumns};
}

// A step of an operand: kAtoms atoms of 64 m or n, from `outer` on.
template <bool kRowsOfK, std::uint32_t kAtoms>
APTM_DEVICE void LoadStep(std::uint32_t to, const TensorMap* map, std::uint32_t full, int outer, int k) {
  if constexpr (kRowsOfK) {
    ptx::TensorLoad2d(to, map, full, k, outer);
  } else {
    for (std::uint32_t i = 0; i < kAtoms; ++i) {
      ptx::TensorLoad2d(to + i * kAtomBytes, map, full, outer + static_cast<int>(i * kAtomSide), k);
    }
  }
}

template <bool kTransA, bool kTransB>
APTM_DEVICE void Produce(StepRing ring, const TensorMap* a, const TensorMap* b, const Tiles& tiles) {
  for (int tile = blockIdx.x; tile < tiles.high * tiles.wide; tile += gridDim.x) {
    const Place at = PlaceOf(tiles, tile);
    for (int step = 0; step < tiles.steps; ++step, ++ring.used) {
      ring.Expect(kStageBytes);
      LoadStep<!kTransA, kRows / kAtomSide>(ring.Stage(), a, ring.Full(), at.row, step * kStep);
      LoadStep<kTransB, kColumns / kAtomSide>(ring.Stage() + kABytes, b, ring.Full(), at.column, step * kStep);
    }
  }
}

// A warpgroup's 64 rows, as columns [0, 128) and [128, 256) of the tile.
struct Sums {
  float half[2][64];
};

template <bool kTransA, bool kTransB>
APTM_DEVICE void MultiplyStep(Sums& sums, std::uint32_t a, std::uint32_t b, bool accumulates) {
  ptx::WgmmaFence();
  APTM_UNROLL for (std::uint32_t k = 0; k < kStep / 16; ++k) {
    const std::uint64_t a_at = DescriptorAt<!kTransA>(a, k, kAtomBytes);
    APTM_UNROLL for (std::uint32_t half = 0; half < 2; ++half) {
      ptx::WgmmaM64N128<kTransA ? 1 : 0, kTransB ? 0 : 1>(
          sums.half[half], a_at, DescriptorAt<kTransB>(b + half * 2 * kAtomBytes, k, kAtomBytes), accumulates || k > 0);
    }
  }
  ptx::WgmmaCommit();
}

template <typename T>
APTM_DEVICE void Store(const Result& c, const Sums& sums, std::int64_t row, std::int64_t column) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, lane = thread % kWarpLanes;
  row += thread / kWarpLanes * 16 + lane / 4;
  column += lane % 4 * 2;
  APTM_UNROLL for (int half = 0; half < 2; ++half) {
    APTM_UNROLL for (int i = 0; i < 64; i += 2) {
      const std::int64_t r = row + i / 2 % 2 * 8, at = column + half * 128 + i / 4 * 8;
      if (r >= c.row_end || at >= c.columns) continue;
      StorePair(static_cast<T*>(c.data) + r * c.columns + at, sums.half[half][i], sums.half[half][i + 1],
                at + 1 < c.columns, c.accumulate);
    }
  }
}

template <bool kTransA, bool kTransB>
APTM_DEVICE void Consume(StepRing ring, const Result& c, const Tiles& tiles) {
  const std::uint32_t warpgroup = threadIdx.x / kWarpgroup - 1;
  const bool releases = threadIdx.x % kWarpLanes == 0;
  for (int tile = blockIdx.x; tile < tiles.high * tiles.wide; tile += gridDim.x) {
    Sums sums;
    for (int step = 0; step < tiles.steps; ++step, ++ring.used) {
      ring.WaitFull();
      MultiplyStep<kTransA, kTransB>(sums, ring.Stage() + warpgroup * kAtomBytes, ring.Stage() + kABytes, step > 0);
      ptx::WgmmaWait<1>();
      if (step > 0 && releases) ring.Release(1);
    }
    ptx::WgmmaWait<0>();
    if (releases) ring.Release(1);
    const Place at = PlaceOf(tiles, tile);
    const std::int64_t row = at.row + static_cast<std::int64_t>(warpgroup) * kAtomSide;
    if (c.is_bf16) {
      Store<BFloat16>(c, sums, row, at.column);
    } else {
      Store<float>(c, sums, row, at.column);
    }
  }
}

template <bool kTransA, bool kTransB>
APTM_DEVICE void Multiply(const Result& c, const TensorMap* a, const TensorMap* b, const Tiles& tiles) {
  APTM_DYNAMIC_SHARED(shared);
  const StepRing ring(FirstTile(shared));
  if (threadIdx.x == 0) {
    ring.Init(kConsumers * kWarpgroup / kWarpLanes);
    ptx::FenceMbarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    ptx::LowerRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) Produce<kTransA, kTransB>(ring, a, b, tiles);
  } else {
    ptx::RaiseRegisters<kConsumerRegisters>();
    Consume<kTransA, kTransB>(ring, c, tiles);
  }
}

#endif

template <bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kThreads, 1)
    MatmulSm90a(Result c, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, Tiles tiles) {
  Multiply<kTransA, kTransB>(c, &a, &b, tiles);
}

TensorMap MapOfOperand(const ConstOperand& operand, std::int64_t outer, std::int64_t k, bool rows_of_k,
                       std::uint32_t outer_box) {
  if (rows_of_k) return MapOf(MatrixOf<BFloat16>(operand, outer, k), kStep, outer_box);
  return MapOf(MatrixOf<BFloat16>(operand, k, outer), kAtomSide, kStep);
}

}  // namespace

void LaunchMatmulSm90a(const MatmulArgs& args, const LaunchContext& context) {
  const auto parts = [](std::int64_t extent, int part) { return static_cast<int>((extent + part - 1) / part); };
  const Tiles tiles = {parts(args.m, kRows), parts(args.n, kColumns), parts(args.k, kStep)};
  const std::int64_t blocks = tiles.count() < kBlocksMax ? tiles.count() : kBlocksMax;
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(blocks)},
                             .block = {.x = kThreads},
                             .shared_bytes = kSharedBytes,
                             .registers = kRegisters};
  auto* kernel = args.trans_b ? &MatmulSm90a<false, true> : &MatmulSm90a<false, false>;
  if (args.trans_a) kernel = args.trans_b ? &MatmulSm90a<true, true> : &MatmulSm90a<true, false>;
  Launch(shape, context, kernel, ResultOf(args.c, args.m, args.n, args.accumulate),
         MapOfOperand(args.a, args.m, args.k, !args.trans_a, kRows),
         MapOfOperand(args.b, args.n, args.k, args.trans_b, kColumns), tiles);
}

}  // namespace angel_ptm::cuda
