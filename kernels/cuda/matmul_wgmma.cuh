// Tiles of matrix products of bf16 operands with fp32 sums, by wgmma and TMA, and the launch whose blocks compute them
// one after the other (matmul_sm90a.cu, grouped_matmul_sm90a.cu).
//
// As many blocks as an H100 has SMs iterate over tiles of 128 x 256. A block has three warpgroups. The first gives back
// its registers; one of its threads copies steps of 64 k through a ring of 4 stages (192 KB), ahead of the other
// warpgroups and across the borders of tiles. The other two multiply, each 64 x 256 as two products of 128 columns, and
// store from their registers while the next tile is being copied. A stage is full when its bytes have arrived. It is
// free when the 8 warps that multiply have waited for the products that read it, one step later. The order of a sum
// over k is that of the instruction, 16 at a time.
//
// Operands have the same layout in shared memory as in device memory, in atoms of 64 x 64 with the 128-byte swizzle:
// rows of k, or rows of m or n, which the instruction transposes.
#ifndef ANGEL_PTM_KERNELS_CUDA_MATMUL_WGMMA_CUH_
#define ANGEL_PTM_KERNELS_CUDA_MATMUL_WGMMA_CUH_

#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma_ring.cuh"

namespace angel_ptm::cuda::wgmma {

inline constexpr int kRows = 128, kColumns = 256, kStep = 64, kSlice = 16, kStages = 4, kBlocksMax = 132;
inline constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
inline constexpr int kRegisters = 168;  // at launch; then those of Registers
template <bool kGathers>
struct Registers {
  static constexpr int kProducer = kGathers ? 56 : 40, kConsumer = kGathers ? 224 : 232;
  static_assert(kProducer + kConsumers * kConsumer <= (1 + kConsumers) * kRegisters);
};
inline constexpr std::uint32_t kAtomSide = kSwizzleColumns, kAtomBytes = kAtomSide * kSwizzleRowBytes;
inline constexpr std::uint32_t kABytes = kRows / kAtomSide * kAtomBytes, kBBytes = kColumns / kAtomSide * kAtomBytes;
inline constexpr std::uint32_t kStageBytes = kABytes + kBBytes;
using StepRing = Ring<kStages, kStageBytes>;
inline constexpr std::size_t kSharedBytes = StepRing::kBytes + kSwizzleAtomBytes;

// A tile: c(row.., column..) (+)= op(a)(row.., k..) op(b)(k.., column..). `row` may be less than c.row_begin: rows
// before c.row_begin are not stored.
struct Tile {
  Result c;
  int row, column;
  int k, steps;  // steps of kStep k
  int slices;    // if kTails: slices of kSlice k; the last step may have fewer than the others
  int expert;    // if kOfExperts: of b
};

// Maps with the boxes that LoadStep copies and, if kTails, maps with slices as boxes.
struct Maps {
  const TensorMap *a, *b, *a_slices, *b_slices;
};

// A Schedule says what a launch computes: int Count() const, and Tile At(int i) const for i below that. kOfExperts: b's
// map has a third dimension, the experts. kTails: operands are transposed, and everything after the last slice counts
// as zero. kGathers: row r of a is schedule.TokenOf(r) of schedule.x[.., k], or zero if that is negative; a has no map.

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
// On other architectures the kernels exist, so that the library links, and do nothing.
template <bool kTransA, bool kTransB, typename Schedule>
APTM_DEVICE void MultiplyTiles(const Schedule&, const Maps&) {}
#else

template <bool kOfExperts>
APTM_DEVICE void LoadBox(std::uint32_t to, const TensorMap* map, std::uint32_t full, int x, int y, int expert) {
  if constexpr (kOfExperts) {
    ptx::TensorLoad3d(to, map, full, x, y, expert);
  } else {
    ptx::TensorLoad2d(to, map, full, x, y);
  }
}

// Loads a step of an operand: kAtoms atoms of 64 m or n, from `outer` on.
template <bool kRowsOfK, std::uint32_t kAtoms, bool kOfExperts = false>
APTM_DEVICE void LoadStep(std::uint32_t to, const TensorMap* map, std::uint32_t full, int outer, int k,
                          int expert = 0) {
  if constexpr (kRowsOfK) {
    LoadBox<kOfExperts>(to, map, full, k, outer, expert);
  } else {
    for (std::uint32_t i = 0; i < kAtoms; ++i) {
      LoadBox<kOfExperts>(to + i * kAtomBytes, map, full, outer + static_cast<int>(i * kAtomSide), k, expert);
    }
  }
}

// Loads the last step of a transposed operand slice by slice. Slices that do not count are read from outside the array,
// as zeros.
template <std::uint32_t kAtoms>
APTM_DEVICE void LoadTail(std::uint32_t to, const TensorMap* map, std::uint32_t full, int outer, int k, int slices) {
  for (std::uint32_t i = 0; i < kAtoms; ++i) {
    for (int slice = 0; slice < kStep / kSlice; ++slice) {
      ptx::TensorLoad2d(to + i * kAtomBytes + slice * kSlice * kSwizzleRowBytes, map, full,
                        outer + static_cast<int>(i * kAtomSide), slice < slices ? k + slice * kSlice : -kSlice);
    }
  }
}

template <bool kTransA, bool kTransB, typename Schedule>
APTM_DEVICE void Produce(StepRing ring, const Schedule& schedule, const Maps& maps) {
  const int tiles = schedule.Count();
  for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
    const Tile tile = schedule.At(i);
    for (int step = 0; step < tile.steps; ++step, ++ring.used) {
      const int k = tile.k + step * kStep;
      const std::uint32_t a = ring.Stage(), b = a + kABytes, full = ring.Full();
      ring.Expect(kStageBytes);
      if constexpr (Schedule::kTails) {
        static_assert(kTransA && !kTransB && !Schedule::kOfExperts);
        const int slices = tile.slices - step * (kStep / kSlice);
        if (slices < kStep / kSlice) {
          LoadTail<kRows / kAtomSide>(a, maps.a_slices, full, tile.row, k, slices);
          LoadTail<kColumns / kAtomSide>(b, maps.b_slices, full, tile.column, k, slices);
          continue;
        }
      }
      LoadStep<!kTransA, kRows / kAtomSide>(a, maps.a, full, tile.row, k);
      LoadStep<kTransB, kColumns / kAtomSide, Schedule::kOfExperts>(b, maps.b, full, tile.column, k, tile.expert);
    }
  }
}

// Likewise, with rows of a gathered by all threads of the warpgroup: by cp.async, 16 bytes per thread and eight threads
// per row, to where a tensor copy would have put them. The first thread copies b. A thread waits for its copies of a
// stage two steps later, when they count as its own writes: the readers free a stage one step behind the one that they
// wait for.
template <bool kTransB, typename Schedule>
APTM_DEVICE void ProduceGathered(StepRing ring, const Schedule& schedule, const Maps& maps) {
  constexpr int kLag = 2, kChunks = kSwizzleRowBytes / 16, kApart = kWarpgroup / kChunks, kOwn = kRows / kApart;
  static_assert(kLag <= kStages - 2);
  const int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;
  const auto arrive = [&](int uses_ago) {
    ptx::FenceProxyAsync();
    ring.ArriveFull(uses_ago);
  };
  const int tiles = schedule.Count();
  for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
    const Tile tile = schedule.At(i);
    int token[kOwn];
    APTM_UNROLL for (int j = 0; j < kOwn; ++j) {
      const int row = tile.row + first + j * kApart;
      token[j] = row < tile.c.row_end ? schedule.TokenOf(row) : -1;
    }
    for (int step = 0; step < tile.steps; ++step, ++ring.used) {
      const int k = step * kStep + chunk * kChunkOf<BFloat16>;
      ring.WaitFree();
      if (threadIdx.x == 0) {
        ptx::MbarrierArriveExpect(ring.Full(), kBBytes);
        LoadStep<kTransB, kColumns / kAtomSide, Schedule::kOfExperts>(ring.Stage() + kABytes, maps.b, ring.Full(),
                                                                      tile.column, step * kStep, tile.expert);
      }
      APTM_UNROLL for (int j = 0; j < kOwn; ++j) {
        const int row = first + j * kApart;
        const bool reads = token[j] >= 0 && k < schedule.k;
        ptx::CopyAsync16(ring.Stage() + row * kSwizzleRowBytes + (chunk ^ row % 8) * 16,
                         schedule.x + (reads ? std::int64_t{token[j]} * schedule.k + k : 0), reads);
      }
      ptx::CopyAsyncCommit();
      if (ring.used < kLag) continue;
      ptx::CopyAsyncWait<kLag>();
      arrive(kLag);
    }
  }
  ptx::CopyAsyncWait<0>();
  for (int uses_ago = ring.used < kLag ? ring.used : kLag; uses_ago > 0; --uses_ago) arrive(uses_ago);
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

APTM_DEVICE float2 LoadBoth(const float* at) { return *reinterpret_cast<const float2*>(at); }
APTM_DEVICE float2 LoadBoth(const BFloat16* at) {
  const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(at);
  return {ptx::BitCast<float>(pair << 16), ptx::BitCast<float>(pair & 0xffff0000u)};
}
APTM_DEVICE void StoreBoth(float* at, float2 x) { *reinterpret_cast<float2*>(at) = x; }
APTM_DEVICE void StoreBoth(BFloat16* at, float2 x) { *reinterpret_cast<std::uint32_t*>(at) = ptx::PackBf16(x.x, x.y); }

// kPairs: rows have an even number of columns, so that two neighbours are rounded and stored together. No product of
// the warpgroup runs meanwhile.
template <typename T, bool kPairs>
APTM_DEVICE void Store(const Result& c, const Sums& sums, std::int64_t row, std::int64_t column) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, lane = thread % kWarpLanes;
  row += thread / kWarpLanes * 16 + lane / 4;
  column += lane % 4 * 2;
  APTM_UNROLL for (int half = 0; half < 2; ++half) {
    APTM_UNROLL for (int i = 0; i < 64; i += 2) {
      const std::int64_t r = row + i / 2 % 2 * 8, at = column + half * 128 + i / 4 * 8;
      if (r < c.row_begin || r >= c.row_end || at >= c.columns) continue;
      T* const to = static_cast<T*>(c.data) + r * c.columns + at;
      float2 pair = {sums.half[half][i], sums.half[half][i + 1]};
      if constexpr (kPairs) {
        if (c.accumulate) {
          const float2 before = LoadBoth(to);
          pair.x += before.x, pair.y += before.y;
        }
        StoreBoth(to, pair);
      } else {
        StorePair(to, pair.x, pair.y, at + 1 < c.columns, c.accumulate);
      }
    }
  }
}

template <bool kPairs>
APTM_DEVICE void StoreTile(const Result& c, const Sums& sums, std::int64_t row, std::int64_t column) {
  if (c.is_bf16) return Store<BFloat16, kPairs>(c, sums, row, column);
  Store<float, kPairs>(c, sums, row, column);
}

template <bool kTransA, bool kTransB, typename Schedule>
APTM_DEVICE void Consume(StepRing ring, const Schedule& schedule) {
  const std::uint32_t warpgroup = threadIdx.x / kWarpgroup - 1;
  const bool releases = threadIdx.x % kWarpLanes == 0;
  const int tiles = schedule.Count();
  for (int i = blockIdx.x; i < tiles; i += gridDim.x) {
    const Tile tile = schedule.At(i);
    Sums sums;
    for (int step = 0; step < tile.steps; ++step, ++ring.used) {
      ring.WaitFull();
      MultiplyStep<kTransA, kTransB>(sums, ring.Stage() + warpgroup * kAtomBytes, ring.Stage() + kABytes, step > 0);
      ptx::WgmmaWait<1>();
      if (step > 0 && releases) ring.Release(1);
    }
    ptx::WgmmaWait<0>();
    if (tile.steps > 0 && releases) ring.Release(1);
    if (tile.steps == 0) {
      APTM_UNROLL for (int j = 0; j < 128; ++j) sums.half[j / 64][j % 64] = 0;
    }
    const std::int64_t row = tile.row + static_cast<std::int64_t>(warpgroup) * kAtomSide;
    if (tile.c.columns % 2 == 0) {
      StoreTile<true>(tile.c, sums, row, tile.column);
    } else {
      StoreTile<false>(tile.c, sums, row, tile.column);
    }
  }
}

template <bool kTransA, bool kTransB, typename Schedule>
APTM_DEVICE void MultiplyTiles(const Schedule& schedule, const Maps& maps) {
  APTM_DYNAMIC_SHARED(shared);
  const StepRing ring(FirstTile(shared));
  if (threadIdx.x == 0) {
    ring.Init(kConsumers * kWarpgroup / kWarpLanes, Schedule::kGathers ? kWarpgroup + 1 : 1);
    ptx::FenceMbarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    ptx::LowerRegisters<Registers<Schedule::kGathers>::kProducer>();
    if constexpr (Schedule::kGathers) {
      ProduceGathered<kTransB>(ring, schedule, maps);
    } else if (threadIdx.x == 0) {
      Produce<kTransA, kTransB>(ring, schedule, maps);
    }
  } else {
    ptx::RaiseRegisters<Registers<Schedule::kGathers>::kConsumer>();
    Consume<kTransA, kTransB>(ring, schedule);
  }
}

#endif

// On the host: the launch for `tiles` tiles, and the number of parts of an extent.
inline LaunchShape ShapeFor(std::int64_t tiles) {
  return {.grid = {.x = static_cast<unsigned>(tiles < kBlocksMax ? tiles : kBlocksMax)},
          .block = {.x = kThreads},
          .shared_bytes = kSharedBytes,
          .registers = kRegisters};
}
inline int Parts(std::int64_t extent, int part) { return static_cast<int>((extent + part - 1) / part); }

// The map of an operand with rows of k, [outer, k], or else [k, outer], in the boxes that LoadStep takes: of one
// matrix, or of one matrix per expert.
inline TensorMap MapOfOperand(const ConstOperand& operand, std::int64_t outer, std::int64_t k, bool rows_of_k,
                              std::uint32_t outer_box, std::uint32_t k_box = kStep) {
  if (rows_of_k) return MapOf(MatrixOf<BFloat16>(operand, outer, k), k_box, outer_box);
  return MapOf(MatrixOf<BFloat16>(operand, k, outer), kAtomSide, k_box);
}
inline TensorMap MapOfExperts(const ConstOperand& operand, std::int64_t experts, std::int64_t outer, std::int64_t k,
                              bool rows_of_k, std::uint32_t outer_box) {
  const auto rows = static_cast<std::uint64_t>(rows_of_k ? outer : k),
             columns = static_cast<std::uint64_t>(rows_of_k ? k : outer), row_bytes = columns * sizeof(BFloat16);
  return MapOf<3>(operand.as<BFloat16>(), {columns, rows, static_cast<std::uint64_t>(experts)},
                  {row_bytes, rows * row_bytes}, {kAtomSide, rows_of_k ? outer_box : kStep, 1});
}

}  // namespace angel_ptm::cuda::wgmma

#endif  // ANGEL_PTM_KERNELS_CUDA_MATMUL_WGMMA_CUH_
