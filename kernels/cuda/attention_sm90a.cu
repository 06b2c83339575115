// Attention as in attention.cu, for bf16 operands with an online softmax in fp32, by wgmma and TMA, for sm_90a alone
// (Shah et al. 2024, FlashAttention-3, algorithm 2).
//
// o[T,Q,D], lse[Q,T] from q[T,Q,D], k and v[tokens of keys,G,D]. Bytes: q and o once, 4 T Q D; k and v from the cache
// once per 128 queries and query head. FLOPs: 4 D for a query head, a query and a key that it sees. Limit: the tensor
// cores for D = 128; for D = 64 the exponentials, of which an SM computes 16 per cycle.
//
// A block has three warpgroups and computes 128 queries of one head. The last warpgroup gives back its registers; one
// of its threads copies q and then, through a ring of 4 stages (128 KB beside 32 KB of q for D = 128), tiles of 128
// keys and of their values in the order of their use: K0, K1, V0, K2, V1, ... The other two handle 64 queries each:
// scores by wgmma from shared memory; weights in registers, where they serve as the left operand of the sums. The
// product for the next tile's scores and the product with this tile's values are both issued before either is waited
// for; the softmax of the next tile overlaps the latter. Results leave through q's tile. Elements outside a row or a
// head read as zero: D is padded to 64, 96 or 128, the sums' columns to 64 or 128. Blocks with the most keys start
// first. Both warpgroups iterate over all keys of the block.
//
// A weight of zero does not hide NaN. If some sums are not finite, the block iterates over its keys twice more: to find
// which queries do see such a value and where, and to add without these values, which leaves the bits of the other sums
// as they are.
#include <cmath>

#include "kernels/cuda/attention_wgmma.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kKeys = 128, kStages = 4;

template <int kD>
using KeyRing = Ring<kStages, kTileBytes<kD, kKeys>>;
// q's tile, the ring, and q's barrier.
template <int kD>
constexpr std::size_t kSharedBytes = kTileBytes<kD, kTileRows> + KeyRing<kD>::kBytes +
                                     sizeof(std::uint64_t) + kSwizzleAtomBytes;

using Problem = AttentionProblem<BFloat16>;

struct Maps {
  TensorMap q, k, v, o;
};

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
// On other architectures the kernel exists, so that the library links, and does nothing.
template <int kD>
APTM_DEVICE void Attend(const Problem&, const Maps&) {}
#else

using Queries = LaneQueries<2>;

APTM_DEVICE int StepsOf(const Queries& queries) {
  return (queries.block_last_key - queries.block_first_key) / kKeys + 1;
}

// Copies keys and values for one pass. The uses of the ring are K0, K1, V0, K2, V1, ...; the last one is of values.
template <int kD>
APTM_DEVICE void Produce(KeyRing<kD>& ring, const Maps& maps, const Queries& queries) {
  const int uses = 2 * StepsOf(queries);
  for (int i = 0; i < uses; ++i, ++ring.used) {
    const bool is_keys = i == 0 || (i % 2 == 1 && i < uses - 1);
    const int step = is_keys ? (i + 1) / 2 : (i - 1) / 2;
    ring.Expect(kTileBytes<kD, kKeys>);
    LoadHead<kD, kKeys>(ring.Stage(), is_keys ? &maps.k : &maps.v, ring.Full(), queries.kv_head,
                        queries.block_first_key + step * kKeys, queries.row);
  }
}

template <int kD>
struct Sums {
  float o[kSwizzledD<kD> / 2];
  float maximum[2], sum[2];  // sum: over the lane's columns; maximum: over all columns, of unscaled scores
};

APTM_DEVICE bool Sees(const Queries& queries, int key, int i) {
  const int column = key + ColumnOf(i);
  return column <= queries.end[RowOf(i)] && column >= queries.start[RowOf(i)];
}

// Scores become weights, powers of two of their difference to the new running maximum. The caller must scale the old
// sums by `factor`.
template <int kD>
APTM_DEVICE void UpdateSoftmax(Sums<kD>& sums, float (&scores)[kKeys / 2], float (&factor)[2], float scale,
                               const Queries& queries, int key) {
  float maximum[2] = {sums.maximum[0], sums.maximum[1]}, scaled[2];
  if (key + kKeys - 1 > queries.first_end || key < queries.last_start) {
    APTM_UNROLL for (int i = 0; i < kKeys / 2; ++i) scores[i] = Sees(queries, key, i) ? scores[i] : -INFINITY;
  }
  APTM_UNROLL for (int i = 0; i < kKeys / 2; ++i) {
    maximum[RowOf(i)] = scores[i] > maximum[RowOf(i)] ? scores[i] : maximum[RowOf(i)];
  }
  APTM_UNROLL for (int r = 0; r < 2; ++r) {
    APTM_UNROLL for (int by = 1; by < 4; by *= 2) {
      const float other = __shfl_xor_sync(kAllLanes, maximum[r], by);
      maximum[r] = other > maximum[r] ? other : maximum[r];
    }
    scaled[r] = maximum[r] * scale;
    factor[r] = ptx::Exp2(sums.maximum[r] * scale - scaled[r]);
    sums.maximum[r] = maximum[r];
    sums.sum[r] *= factor[r];
  }
  APTM_UNROLL for (int i = 0; i < kKeys / 2; ++i) {
    scores[i] = ptx::Exp2(fmaf(scores[i], scale, -scaled[RowOf(i)]));
    sums.sum[RowOf(i)] += scores[i];
  }
}

// The sums over all keys. With kNotFinite: for each element of o, the number of non-finite values that contribute to
// it.
template <int kD>
APTM_DEVICE void SumOverKeys(Sums<kD>& sums, KeyRing<kD>& ring, std::uint32_t q_tile, unsigned char* shared,
                             const Problem& p, const Queries& queries, Values values) {
  const bool releases = threadIdx.x % kWarpLanes == 0;
  const int steps = StepsOf(queries);
  std::uint32_t weights[kKeys / 16][4];
  float scores[kKeys / 2], factor[2];
  const auto multiply_keys = [&] {
    ring.WaitFull();
    MultiplyHeads<kD, kKeys>(scores, GroupRows(q_tile), ring.Stage());
    ptx::WgmmaCommit();
    ++ring.used;
  };
  const auto add_values = [&](bool accumulates) {
    ring.WaitFull();
    if (values != Values::kAll) {
      ReplaceValues<kTileBytes<kD, kKeys>>(shared + (ring.Stage() - ptx::SharedAddress(shared)), values);
    }
    AddHeads<kSwizzledD<kD>, kKeys>(sums.o, weights, ring.Stage(), accumulates);
    ptx::WgmmaCommit();
    ++ring.used;
  };
  const auto weigh = [&](int step) {
    const int key = queries.block_first_key + step * kKeys;
    if (values != Values::kNotFinite) return UpdateSoftmax<kD>(sums, scores, factor, p.scale, queries, key);
    factor[0] = factor[1] = 1;
    APTM_UNROLL for (int i = 0; i < kKeys / 2; ++i) scores[i] = Sees(queries, key, i) ? 1.0f : 0.0f;
  };
  sums.maximum[0] = sums.maximum[1] = kNoMaximum;
  sums.sum[0] = sums.sum[1] = 0;
  multiply_keys();
  ptx::WgmmaWait<0>();
  ptx::WgmmaSettle(scores);
  if (releases) ring.Release(1);
  weigh(0);
  PackWeights<kKeys>(weights, scores);
  APTM_UNROLL_BY(1) for (int step = 1; step < steps; ++step) {
    multiply_keys();
    add_values(step > 1);
    ptx::WgmmaWait<1>();
    ptx::WgmmaSettle(scores);
    if (releases) ring.Release(2);
    weigh(step);
    ptx::WgmmaWait<0>();
    ptx::WgmmaSettle(sums.o);
    if (releases) ring.Release(1);
    APTM_UNROLL for (int i = 0; i < kSwizzledD<kD> / 2; ++i) sums.o[i] *= factor[RowOf(i)];
    PackWeights<kKeys>(weights, scores);
  }
  add_values(steps > 1);
  ptx::WgmmaWait<0>();
  ptx::WgmmaSettle(sums.o);
  if (releases) ring.Release(1);
}

template <int kD>
APTM_DEVICE void Consume(KeyRing<kD>& ring, std::uint32_t q_tile, unsigned char* shared, const Problem& p,
                         const Maps& maps, const Queries& queries) {
  constexpr int kOwn = kSwizzledD<kD> / 2;
  Sums<kD> sums;
  std::uint32_t met[2] = {};  // the elements of o that a non-finite value contributes to
  for (Values values = Values::kAll;;) {
    SumOverKeys<kD>(sums, ring, q_tile, shared, p, queries, values);
    if (values == Values::kFinite) break;
    if (values == Values::kAll) {
      if (!AnyOfBlock(AnyNotFinite(sums.o))) break;
      values = Values::kNotFinite;
    } else {
      APTM_UNROLL for (int i = 0; i < kOwn; ++i) met[i / 32] |= (sums.o[i] == 0.0f ? 0u : 1u) << i % 32;
      values = Values::kFinite;
    }
  }
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) sums.o[i] = (met[i / 32] >> i % 32 & 1) != 0 ? NAN : sums.o[i];
  float factor[2];
  APTM_UNROLL for (int r = 0; r < 2; ++r) {
    float sum = sums.sum[r];
    APTM_UNROLL for (int by = 1; by < 4; by *= 2) sum += __shfl_xor_sync(kAllLanes, sum, by);
    factor[r] = 1.0f / sum;
    const int lane = threadIdx.x % kWarpLanes, query = queries.first + lane / 4 + 8 * r;
    if (lane % 4 == 0 && query < p.s) {
      p.lse[(queries.head * p.b + queries.row) * p.s + query] = (sums.maximum[r] * p.scale + log2f(sum)) * kLn2;
    }
  }
  StoreHeads<kSwizzledD<kD>>(&maps.o, queries.head, queries.block_first, queries.row, q_tile, shared, sums.o, factor);
  ptx::BulkWaitRead<0>();
}

template <int kD>
APTM_DEVICE void Attend(const Problem& p, const Maps& maps) {
  APTM_DYNAMIC_SHARED(shared);
  const std::uint32_t q_tile = FirstTile(shared);
  KeyRing<kD> ring(q_tile + kTileBytes<kD, kTileRows>);
  const std::uint32_t q_full = ring.stages + KeyRing<kD>::kBytes;
  if (threadIdx.x == 0) {
    ring.Init(kTileWarps);
    ptx::MbarrierInit(q_full, 1);
    ptx::FenceMbarrierInit();
  }
  __syncthreads();
  const Queries queries = QueriesOfLane(p);
  if (threadIdx.x >= kTileThreads) {
    ptx::LowerRegisters<kCopyRegisters>();
    const bool copies = threadIdx.x == kTileThreads;
    if (copies) {
      ptx::MbarrierArriveExpect(q_full, kTileBytes<kD, kTileRows>);
      LoadHead<kD, kTileRows>(q_tile, &maps.q, q_full, queries.head, queries.block_first, queries.row);
      Produce<kD>(ring, maps, queries);
    }
    __syncwarp();
    if (AnyOfBlock(false) && copies) {
      Produce<kD>(ring, maps, queries);
      Produce<kD>(ring, maps, queries);
    }
  } else {
    ptx::RaiseRegisters<kMultiplyRegisters>();
    ptx::MbarrierWait(q_full, 0);
    Consume<kD>(ring, q_tile, shared, p, maps, queries);
  }
}

#endif

template <int kD>
__global__ void __launch_bounds__(kWgmmaThreads, 1) AttentionSm90a(Problem p, const __grid_constant__ Maps maps) {
  Attend<kD>(p, maps);
}

}  // namespace

void LaunchAttentionSm90a(const AttentionArgs& args, const LaunchContext& context) {
  const Problem p = ProblemOf<BFloat16>(args);
  const std::int64_t keys = p.sight.keys, q_stride = p.q_heads * p.d, k_stride = p.kv_heads * p.d;
  const Maps maps = {.q = MapOfHeads(p.q, p.d, p.q_heads, p.s, p.b, q_stride, kTileRows),
                     .k = MapOfHeads(p.k, p.d, p.kv_heads, keys, p.b, k_stride, kKeys),
                     .v = MapOfHeads(p.v, p.d, p.kv_heads, keys, p.b, p.v_stride, kKeys),
                     .o = MapOfHeads(p.o, p.d, p.q_heads, p.s, p.b, q_stride, kGroupRows)};
  WithHeadDim(args.d, [&](auto dim) {
    constexpr int kD = decltype(dim)::kPadded;
    const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(p.b * p.q_heads),
                                        .y = static_cast<unsigned>((p.s + kTileRows - 1) / kTileRows)},
                               .block = {.x = kWgmmaThreads},
                               .shared_bytes = kSharedBytes<kD>,
                               .registers = kLaunchRegisters};
    Launch(shape, context, &AttentionSm90a<kD>, p, maps);
  });
}

}  // namespace angel_ptm::cuda
