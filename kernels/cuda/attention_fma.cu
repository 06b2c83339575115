// o = softmax(scale q k^T) v over the keys that a query sees, in fp32, with an online softmax (Dao 2023,
// FlashAttention-2, algorithm 1), by FMA, for every GPU.
//
// o[T,Q,D], lse[Q,T] from q[T,Q,D], k and v[tokens of keys,G,D], as in attention.cu. Bytes: q and o once, 8 T Q D; k
// and v from the cache once per 64 queries and query head. FLOPs: 4 D for a query head, a query and a key that it sees.
// Limit: the FMA units; 64 FMA of the products take 16 reads of shared memory, which last as long as the FMA.
//
// A block of 8 warps multiplies 64 queries of one head with tiles of 32 keys (attention_fma_tiles.cuh), so that a
// query's softmax stays in half a warp. Keys and values go through a ring of two stages (110 KB with q and the weights
// for D above 96): the next tile is copied while one is processed. Weights go to the second product through rows of
// shared memory that only their warp reads. Blocks with the most keys start first. A warp skips tiles that none of its
// queries sees. In a tile that some of them see in part, unseen pairs are skipped, so that NaN in them has no effect.
#include <cmath>

#include "kernels/cuda/attention_fma_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {
namespace fma_attention {
namespace {

using Problem = AttentionProblem<float>;
using Queries = LaneQueries<kOwn>;

template <int kD>
constexpr std::size_t kSharedBytes = (kOwnElements<kD> + kStages * 2 * kOtherElements<kD> + kWeightElements) *
                                     sizeof(float);

APTM_DEVICE Queries MyQueries(const Problem& p) {
  Queries queries;
  FindQueries<kWarpRows>(queries, p);
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    const int mine = WithinRow(p, queries.block_first + OwnRow() + i);
    queries.start[i] = p.sight.First(queries.row, mine);
    queries.end[i] = p.sight.Last(queries.row, mine);
  }
  return queries;
}

template <int kD>
struct Softmax {
  Sums<kD> o;
  float maximum[kOwn], sum[kOwn];  // sum: over the lane's keys; maximum: over all keys
};

// Scores become weights: powers of two of score - maximum with the new running maximum; the change of the maximum
// scales the old sums.
template <int kD, typename Sees>
APTM_DEVICE void UpdateSoftmax(Softmax<kD>& sums, Pairs& scores, float scale, bool masked, const Sees& sees) {
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    float maximum = sums.maximum[i];
    APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) {
      scores[i][j] = masked && !sees(i, Lane() + kLanes * j) ? -INFINITY : scores[i][j] * scale;
      maximum = scores[i][j] > maximum ? scores[i][j] : maximum;
    }
    maximum = RowMax(maximum);
    const float factor = exp2f(sums.maximum[i] - maximum);
    sums.maximum[i] = maximum;
    sums.sum[i] *= factor;
    APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) {
      scores[i][j] = exp2f(scores[i][j] - maximum);
      sums.sum[i] += scores[i][j];
    }
    APTM_UNROLL for (int n = 0; n < kD / kLanes; ++n) sums.o[i][n] *= factor;
  }
}

template <int kD>
APTM_DEVICE void SumOverKeys(Softmax<kD>& sums, float* shared, const Problem& p, const Queries& queries) {
  float* const ring = shared + kOwnElements<kD>;
  float* const weights = ring + kStages * 2 * kOtherElements<kD>;
  const std::int64_t row = queries.row * p.sight.keys, k_stride = p.kv_heads * p.d, column = queries.kv_head * p.d;
  const int first_key = queries.block_first_key, steps = (queries.block_last_key - first_key) / kOthers + 1;
  const auto load = [&](int step) {
    float* const stage = ring + step % kStages * 2 * kOtherElements<kD>;
    const int key = first_key + step * kOthers, keys = static_cast<int>(p.sight.keys) - key;
    if (step < steps) {
      LoadRows<kOthers, kD, true>(stage, p.k + (row + key) * k_stride + column, k_stride, keys, p.d);
      LoadValues<kOthers, kD>(stage + kOtherElements<kD>, p.v + (row + key) * p.v_stride + column, p.v_stride, keys,
                              p.d, p.copies_v);
    }
    ptx::CopyAsyncCommit();
  };
  load(0);
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<0>();
    __syncthreads();  // all of this step is there, and the other stage is free
    load(step + 1);
    const int key = first_key + step * kOthers;
    if (key > queries.last_key || key + kOthers <= queries.first_key) continue;
    const float* const k_tile = ring + step % kStages * 2 * kOtherElements<kD>;
    const bool masked = key + kOthers - 1 > queries.first_end || key < queries.last_start;
    const auto sees = [&](int i, int other) {
      return key + other <= queries.end[i] && key + other >= queries.start[i];
    };
    Pairs scores;
    MultiplyRows<kD>(scores, shared, k_tile, p.d);
    UpdateSoftmax<kD>(sums, scores, p.scale, masked, sees);
    StoreWeights(weights, scores);
    __syncwarp();
    AddRows<kD>(sums.o, weights, k_tile + kOtherElements<kD>, masked, sees);
  }
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads, 1) Attention(Problem p) {
  APTM_DYNAMIC_SHARED(dynamic);
  float* const shared = reinterpret_cast<float*>(dynamic);
  const Queries queries = MyQueries(p);
  const std::int64_t stride = p.q_heads * p.d;
  const std::int64_t at = (queries.row * p.s + queries.block_first) * stride + queries.head * p.d;
  const int count = static_cast<int>(p.s) - queries.block_first;
  LoadRows<kRows, kD, true>(shared, p.q + at, stride, count, p.d);
  Softmax<kD> sums;
  Clear<kD>(sums.o);
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) sums.maximum[i] = kNoMaximum, sums.sum[i] = 0;
  SumOverKeys<kD>(sums, shared, p, queries);
  float factor[kOwn];
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    const float sum = RowSum(sums.sum[i]);
    factor[i] = 1.0f / sum;
    const int query = queries.block_first + OwnRow() + i;
    if (Lane() == 0 && query < p.s) {
      p.lse[(queries.head * p.b + queries.row) * p.s + query] = (sums.maximum[i] + log2f(sum)) * kLn2;
    }
  }
  StoreRows<kD>(p.o + at, stride, count, p.d, true, sums.o, factor);
}

}  // namespace
}  // namespace fma_attention

void LaunchFmaAttention(const AttentionArgs& args, const LaunchContext& context) {
  const auto p = ProblemOf<float>(args);
  WithHeadDim(args.d, [&](auto dim) {
    constexpr int kD = decltype(dim)::kPadded;
    Launch({.grid = {.x = static_cast<unsigned>(p.b * p.q_heads),
                     .y = static_cast<unsigned>((p.s + fma_attention::kRows - 1) / fma_attention::kRows)},
            .block = {.x = kTileThreads},
            .shared_bytes = fma_attention::kSharedBytes<kD>},
           context, &fma_attention::Attention<kD>, p);
  });
}

}  // namespace angel_ptm::cuda
