// o = softmax(scale q k^T) v over the keys that a query sees, for bf16 operands, with an online softmax in fp32 (Dao
// 2023, FlashAttention-2, algorithm 1), by mma.sync and cp.async, for every GPU from sm_80 on.
//
// o[T,Q,D], lse[Q,T] from q[T,Q,D], k and v[tokens of keys,G,D]; kernels/ops/attention.h says which query sees which
// keys, and how heads are grouped. Bytes: q and o once, 4 T Q D; k and v from the cache once per 128 queries and query
// head. FLOPs: 4 D for a query head, a query and a key that it sees; 2 Q D S T for one document per row, 4 Q D T for
// each key of full attention. Limit: the tensor cores, of which mma.sync reaches about 65 % on sm_90, and the
// exponentials.
//
// A block of 8 warps computes 128 queries of one head. A warp multiplies 16 of them with all of a tile of 64 keys, so
// that a query's softmax stays in four lanes. Keys and values go through a ring of two stages (103 KB with q for D
// above 96): the next tile is copied while one is processed. D is padded with zeros to 64, 96 or 128. Weights go from
// the fragments of the first product straight into those of the second. Blocks with the most keys start first; the
// heads of a group run side by side and share keys in the cache. A warp skips tiles that none of its queries sees.
//
// A weight of zero does not hide NaN. If some sums are not finite, the block adds again without the values that are not
// finite, which leaves the bits of the other sums as they are, and then finds which queries do see such a value.
#include <cmath>

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kThreads = kTileThreads, kQueries = kTileRows;
constexpr int kKeys = 64, kStages = 2;
constexpr float kMasked = -INFINITY;

template <int kD>
constexpr std::size_t kSharedBytes = (kQueries + kStages * 2 * kKeys) * (kD + kRowPad) * sizeof(std::uint16_t);

using Problem = AttentionProblem<BFloat16>;

using Queries = LaneQueries<2>;

template <int kD>
struct Sums {
  float o[kD / 8][4];
  float maximum[2], sum[2];  // of the lane's columns; maximum of all
};

APTM_DEVICE bool Sees(const Queries& queries, int key, int j, int e) {
  const int column = key + 8 * j + static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
  return column <= queries.end[e / 2] && column >= queries.start[e / 2];
}

// Scores become weights: powers of two of score - maximum with the new running maximum; the change of the maximum
// scales the old sums.
template <int kD>
APTM_DEVICE void UpdateSoftmax(Sums<kD>& sums, float (&scores)[kKeys / 8][4], const Problem& p, const Queries& queries,
                               int key) {
  const bool masked = key + kKeys - 1 > queries.first_end || key < queries.last_start;
  float maximum[2] = {sums.maximum[0], sums.maximum[1]}, factor[2];
  APTM_UNROLL for (int j = 0; j < kKeys / 8; ++j) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) {
      const float score = scores[j][e] * p.scale;
      scores[j][e] = masked && !Sees(queries, key, j, e) ? kMasked : score;
      maximum[e / 2] = scores[j][e] > maximum[e / 2] ? scores[j][e] : maximum[e / 2];
    }
  }
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    APTM_UNROLL for (int by = 1; by < 4; by *= 2) {
      const float other = __shfl_xor_sync(kAllLanes, maximum[i], by);
      maximum[i] = other > maximum[i] ? other : maximum[i];
    }
    factor[i] = exp2f(sums.maximum[i] - maximum[i]);
    sums.maximum[i] = maximum[i];
    sums.sum[i] *= factor[i];
  }
  APTM_UNROLL for (int j = 0; j < kKeys / 8; ++j) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) {
      scores[j][e] = exp2f(scores[j][e] - maximum[e / 2]);
      sums.sum[e / 2] += scores[j][e];
    }
  }
  APTM_UNROLL for (int n = 0; n < kD / 8; ++n) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) sums.o[n][e] *= factor[e / 2];
  }
}

// The sums over all keys. With kNotFinite: for each element of o, the number of non-finite values that contribute to
// it.
template <int kD, Values kValues>
APTM_DEVICE void SumOverKeys(Sums<kD>& sums, std::uint16_t* q_tile, const Problem& p, const Queries& queries) {
  constexpr int kTileElements = kKeys * (kD + kRowPad);
  const std::int64_t row = queries.row * p.sight.keys, k_stride = p.kv_heads * p.d;
  const int first_key = queries.block_first_key, steps = (queries.block_last_key - first_key) / kKeys + 1;
  std::uint16_t* const ring = q_tile + kQueries * (kD + kRowPad);
  const auto load = [&](int step) {
    std::uint16_t* const stage = ring + step % kStages * 2 * kTileElements;
    const int key = first_key + step * kKeys, keys = static_cast<int>(p.sight.keys) - key;
    if (step < steps) {
      const std::int64_t token = row + key, column = queries.kv_head * p.d;
      LoadRows<kKeys, kD, true>(stage, p.k + token * k_stride + column, k_stride, keys, p.d);
      LoadValues<kKeys, kD>(stage + kTileElements, p.v + token * p.v_stride + column, p.v_stride, keys, p.d,
                            p.copies_v);
    }
    ptx::CopyAsyncCommit();
  };
  sums = {.o = {}, .maximum = {kNoMaximum, kNoMaximum}, .sum = {}};
  load(0);
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<0>();
    __syncthreads();  // all of this step is there, and the other stage is free
    load(step + 1);
    const int key = first_key + step * kKeys;
    if (key > queries.last_key || key + kKeys <= queries.first_key) continue;
    const std::uint16_t* const k_tile = ring + step % kStages * 2 * kTileElements;
    float weights[kKeys / 8][4] = {};
    if constexpr (kValues == Values::kNotFinite) {
      APTM_UNROLL for (int j = 0; j < kKeys / 8; ++j) {
        APTM_UNROLL for (int e = 0; e < 4; ++e) weights[j][e] = Sees(queries, key, j, e) ? 1.0f : 0.0f;
      }
    } else {
      MultiplyRows<kD, kKeys, kD / 16>(weights, q_tile, k_tile);
      UpdateSoftmax<kD>(sums, weights, p, queries, key);
    }
    AddRows<kD, kKeys, kValues>(sums.o, weights, k_tile + kTileElements);
  }
}

// Stores o and lse of the warp's queries, through its own rows of q_tile, which no other warp reads.
template <int kD>
APTM_DEVICE void Store(const Sums<kD>& sums, std::uint16_t* q_tile, const Problem& p, const Queries& queries) {
  const int lane = threadIdx.x % kWarpLanes, s = static_cast<int>(p.s);
  float factor[2];
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    float sum = sums.sum[i];
    APTM_UNROLL for (int by = 1; by < 4; by *= 2) sum += __shfl_xor_sync(kAllLanes, sum, by);
    factor[i] = 1.0f / sum;
    const int query = queries.first + lane / 4 + 8 * i;
    if (lane % 4 == 0 && query < s) {
      p.lse[(queries.head * p.b + queries.row) * p.s + query] = (sums.maximum[i] + log2f(sum)) * kLn2;
    }
  }
  const std::int64_t token = queries.row * p.s + queries.first, stride = p.q_heads * p.d;
  StoreRows<kD>(p.o + token * stride + queries.head * p.d, stride, s - queries.first, p.d, true,
                q_tile + WarpRow<kWarpRows>() * (kD + kRowPad), sums.o, factor);
}

// Stores NaN in the elements of o that non-finite values contribute to.
template <int kD>
APTM_DEVICE void StoreNan(const Sums<kD>& met, const Problem& p, const Queries& queries) {
  const int lane = threadIdx.x % kWarpLanes;
  APTM_UNROLL for (int n = 0; n < kD / 8; ++n) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) {
      const std::int64_t query = queries.first + lane / 4 + e / 2 * 8;
      const int column = 8 * n + lane % 4 * 2 + e % 2;
      if (query >= p.s || column >= p.d || met.o[n][e] == 0.0f) continue;
      p.o[((queries.row * p.s + query) * p.q_heads + queries.head) * p.d + column].bits = 0x7fff;
    }
  }
}

template <int kD>
__global__ void __launch_bounds__(kThreads) Attention(Problem p) {
  APTM_DYNAMIC_SHARED(shared);
  std::uint16_t* const q_tile = reinterpret_cast<std::uint16_t*>(shared);
  const Queries queries = QueriesOfLane(p);
  const std::int64_t q_stride = p.q_heads * p.d;
  LoadRows<kQueries, kD, true>(q_tile, p.q + (queries.row * p.s + queries.block_first) * q_stride + queries.head * p.d,
                               q_stride, static_cast<int>(p.s) - queries.block_first, p.d);
  Sums<kD> sums;
  SumOverKeys<kD, Values::kAll>(sums, q_tile, p, queries);
  const bool again = AnyOfBlock(HasNotFinite<kD>(sums.o));
  if (again) SumOverKeys<kD, Values::kFinite>(sums, q_tile, p, queries);
  Store(sums, q_tile, p, queries);
  if (!again) return;
  __syncthreads();
  SumOverKeys<kD, Values::kNotFinite>(sums, q_tile, p, queries);
  StoreNan(sums, p, queries);
}

template <int kD>
void LaunchPadded(const Problem& p, const LaunchContext& context) {
  const LaunchShape shape = {.grid = {.x = static_cast<unsigned>(p.b * p.q_heads),
                                      .y = static_cast<unsigned>((p.s + kQueries - 1) / kQueries)},
                             .block = {.x = kThreads},
                             .shared_bytes = kSharedBytes<kD>};
  Launch(shape, context, &Attention<kD>, p);
}

}  // namespace

void LaunchAttention(const AttentionArgs& args, const LaunchContext& context) {
  if (args.d > kTiledDimMax) return LaunchWideAttention(args, context);
  if (args.q.dtype == DType::kFloat32) return LaunchFmaAttention(args, context);
  const Problem p = ProblemOf<BFloat16>(args);
  WithHeadDim(args.d, [&](auto dim) { LaunchPadded<decltype(dim)::kPadded>(p, context); });
}

}  // namespace angel_ptm::cuda
