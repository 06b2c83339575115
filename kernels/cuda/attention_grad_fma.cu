// The gradient of attention (kernels/ops/attention.h) in fp32, without atomics and in a fixed order, by FMA, for every
// GPU: the two kernels of attention_grad.cu, with P = exp(scale q k^T - lse) and delta = rowsum(do * o):
//   dv = P^T do,   dS = P (do v^T - delta),   dq = scale dS k,   dk = scale dS^T q.
//
// dq[T,Q,D], dk and dv[tokens of keys,G,D]. Bytes: 20 T Q D and 16 T G D, and the smaller side again from the cache for
// every tile; FLOPs: 14 D for a query head, a query and a key that it sees: P and dS are computed twice. Limit: the FMA
// units.
//
// (1) PrepareQueries (attention_grad_rows.cuh). (2) QueryGrad: a block of 8 warps handles 64 queries of one head and
// iterates over their keys. (3) KeyGrad: a block handles 64 keys of one head and iterates over the query heads of the
// group in order and over the queries that see the keys, so a sum has a single order. Both use the products of
// attention_fma_tiles.cuh, 32 rows of the other side at a time, through a ring of two stages (144 KB and 155 KB for D
// above 96). They skip tiles without a visible pair, and pairs that are not visible, so that NaN in them has no effect.
// Queries that see a value that is not finite show it: their lse or their delta is not finite. Workspace: 16 bytes for
// every query and head, with rows padded to 128.
#include <cmath>

#include "kernels/cuda/attention_fma_tiles.cuh"
#include "kernels/cuda/attention_grad_rows.cuh"

namespace angel_ptm::cuda {
namespace fma_attention {
namespace {

using Problem = AttentionGradProblem<float>;
static_assert(kFactRows % kRows == 0);

template <int kD>
constexpr std::size_t kQueryGradBytes = (2 * kOwnElements<kD> + kStages * 2 * kOtherElements<kD> + kWeightElements) *
                                        sizeof(float);
template <int kD>
constexpr int kKeyGradStage = 2 * kOtherElements<kD> + kOthers* static_cast<int>(sizeof(uint4) / sizeof(float));
template <int kD>
constexpr std::size_t kKeyGradBytes = (2 * kOwnElements<kD> + kStages * kKeyGradStage<kD> + 2 * kWeightElements) *
                                      sizeof(float);

// ---- dq ----

template <int kD>
APTM_DEVICE void SumOverKeys(Sums<kD>& dq, float* shared, const Problem& p, const WarpQueries& queries,
                             const QueryFacts (&facts)[kOwn]) {
  float* const ring = shared + 2 * kOwnElements<kD>;
  float* const slopes = ring + kStages * 2 * kOtherElements<kD>;
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
    const auto sees = [&](int i, int other) { return key + other <= facts[i].end && key + other >= facts[i].start; };
    Pairs scores, ds;
    MultiplyRows<kD>(scores, shared, k_tile, p.d);
    MultiplyRows<kD>(ds, shared + kOwnElements<kD>, k_tile + kOtherElements<kD>, p.d);
    APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
      APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) {
        const bool seen = !masked || sees(i, Lane() + kLanes * j);
        ds[i][j] = PairGrad(scores[i][j], ds[i][j], p.log2_scale, facts[i], seen).ds;
      }
    }
    StoreWeights(slopes, ds);
    __syncwarp();
    AddRows<kD>(dq, slopes, k_tile, masked, sees);
  }
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads) QueryGrad(Problem p) {
  APTM_DYNAMIC_SHARED(dynamic);
  float* const shared = reinterpret_cast<float*>(dynamic);
  WarpQueries queries;
  FindQueries<kWarpRows>(queries, p);
  // The facts of queries after the row's end say that they see nothing; so their keys are masked one by one.
  if (queries.first + kWarpRows > p.s) queries.last_start = static_cast<int>(p.sight.keys);
  QueryFacts facts[kOwn];
  APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
    facts[i] = Unpacked(p.facts[p.FactsAt(queries.head, queries.row) + queries.block_first + OwnRow() + i]);
  }
  const std::int64_t stride = p.q_heads * p.d;
  const std::int64_t at = (queries.row * p.s + queries.block_first) * stride + queries.head * p.d;
  const int count = static_cast<int>(p.s) - queries.block_first;
  LoadRows<kRows, kD, true>(shared, p.q + at, stride, count, p.d);
  LoadRows<kRows, kD, true>(shared + kOwnElements<kD>, p.do_ + at, stride, count, p.d);
  Sums<kD> dq;
  Clear<kD>(dq);
  SumOverKeys<kD>(dq, shared, p, queries, facts);
  StoreRows<kD>(p.dq + at, stride, count, p.d, true, dq, {p.scale, p.scale, p.scale, p.scale});
}

// ---- dk and dv ----

template <int kD>
struct KeySums {
  Sums<kD> dk, dv;
};

// Adds a tile of queries, followed by their do and facts. `weights`: room for P, then dS, of own keys.
template <int kD>
APTM_DEVICE void AddQueries(KeySums<kD>& sums, float* weights, const float* k_tile, const float* q_tile,
                            const Problem& p, const WarpKeys& keys) {
  const float* const do_tile = q_tile + kOtherElements<kD>;
  const uint4* const facts = reinterpret_cast<const uint4*>(do_tile + kOtherElements<kD>);
  const QueryFacts first = Unpacked(facts[0]);
  const int key = keys.first, own_key = keys.block_first + OwnRow(), last_start = Unpacked(facts[kOthers - 1]).start;
  if (key > first.end + kOthers - 1 || first.start > key + kWarpRows - 1) return;
  const bool masked = key + kWarpRows - 1 > first.end || last_start > key;
  Pairs pairs, ds;
  MultiplyRows<kD>(pairs, k_tile, q_tile, p.d);
  MultiplyRows<kD>(ds, k_tile + kOwnElements<kD>, do_tile, p.d);
  APTM_UNROLL for (int j = 0; j < kLaneOthers; ++j) {
    const QueryFacts query = Unpacked(facts[Lane() + kLanes * j]);
    APTM_UNROLL for (int i = 0; i < kOwn; ++i) {
      const bool seen = !masked || (own_key + i <= query.end && own_key + i >= query.start);
      const Pair pair = PairGrad(pairs[i][j], ds[i][j], p.log2_scale, query, seen);
      pairs[i][j] = pair.p;
      ds[i][j] = pair.ds;
    }
  }
  StoreWeights(weights, pairs);
  StoreWeights(weights + kWeightElements, ds);
  __syncwarp();
  const auto sees = [&](int i, int other) {
    const QueryFacts query = Unpacked(facts[other]);
    return own_key + i <= query.end && own_key + i >= query.start;
  };
  AddRows<kD>(sums.dv, weights, do_tile, masked, sees);
  AddRows<kD>(sums.dk, weights + kWeightElements, q_tile, masked, sees);
}

template <int kD>
APTM_DEVICE void SumOverQueries(KeySums<kD>& sums, float* shared, const Problem& p, const WarpKeys& keys) {
  float* const ring = shared + 2 * kOwnElements<kD>;
  float* const weights = ring + kStages * kKeyGradStage<kD>;
  const std::int64_t group = p.q_heads / p.kv_heads, stride = p.q_heads * p.d;
  const int steps = static_cast<int>(group) * keys.tiles;
  const auto load = [&](int step) {
    if (step < steps) {
      float* const stage = ring + step % kStages * kKeyGradStage<kD>;
      const int query = keys.first_query + step % keys.tiles * kOthers, queries = static_cast<int>(p.s) - query;
      const std::int64_t head = keys.kv_head * group + step / keys.tiles;
      const std::int64_t at = (keys.row * p.s + query) * stride + head * p.d;
      LoadRows<kOthers, kD, true>(stage, p.q + at, stride, queries, p.d);
      LoadRows<kOthers, kD, true>(stage + kOtherElements<kD>, p.do_ + at, stride, queries, p.d);
      if (threadIdx.x < kOthers) {
        ptx::CopyAsync16(ptx::SharedAddress(stage + 2 * kOtherElements<kD>) + threadIdx.x * sizeof(uint4),
                         p.facts + p.FactsAt(head, keys.row) + query + threadIdx.x, true);
      }
    }
    ptx::CopyAsyncCommit();
  };
  load(0);
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<0>();
    __syncthreads();  // all of this step is there, and the other stage is free
    load(step + 1);
    AddQueries<kD>(sums, weights, shared, ring + step % kStages * kKeyGradStage<kD>, p, keys);
  }
  ptx::CopyAsyncWait<0>();  // without any step, the copies of the block's own rows are still in flight
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads) KeyGrad(Problem p) {
  APTM_DYNAMIC_SHARED(dynamic);
  float* const shared = reinterpret_cast<float*>(dynamic);
  const WarpKeys keys = KeysOfWarp<kWarpRows, kOthers>(p);
  const std::int64_t token = keys.row * p.sight.keys + keys.block_first, column = keys.kv_head * p.d;
  const std::int64_t k_stride = p.kv_heads * p.d;
  const int count = static_cast<int>(p.sight.keys) - keys.block_first;
  LoadRows<kRows, kD, true>(shared, p.k + token * k_stride + column, k_stride, count, p.d);
  LoadValues<kRows, kD>(shared + kOwnElements<kD>, p.v + token * p.v_stride + column, p.v_stride, count, p.d,
                        p.copies_v);
  KeySums<kD> sums;
  Clear<kD>(sums.dk);
  Clear<kD>(sums.dv);
  SumOverQueries<kD>(sums, shared, p, keys);
  StoreRows<kD>(p.dk + token * k_stride + column, k_stride, count, p.d, true, sums.dk,
                {p.scale, p.scale, p.scale, p.scale});
  StoreRows<kD>(p.dv + token * p.dv_stride + column, p.dv_stride, count, p.d, p.copies_dv, sums.dv, {1, 1, 1, 1});
}

}  // namespace
}  // namespace fma_attention

void LaunchFmaAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context) {
  const auto p = ProblemOf<float>(args, context.workspace);
  LaunchPrepareQueries(p, context);
  LaunchShape shape = {.grid = {.x = static_cast<unsigned>(p.b * p.q_heads),
                                .y = static_cast<unsigned>((p.s + fma_attention::kRows - 1) / fma_attention::kRows)},
                       .block = {.x = kTileThreads}};
  WithHeadDim(args.d, [&](auto dim) {
    constexpr int kD = decltype(dim)::kPadded;
    shape.shared_bytes = fma_attention::kQueryGradBytes<kD>;
    Launch(shape, context, &fma_attention::QueryGrad<kD>, p);
    shape.grid = {.x = static_cast<unsigned>(p.b * p.kv_heads),
                  .y = static_cast<unsigned>((p.sight.keys + fma_attention::kRows - 1) / fma_attention::kRows)};
    shape.shared_bytes = fma_attention::kKeyGradBytes<kD>;
    Launch(shape, context, &fma_attention::KeyGrad<kD>, p);
  });
}

}  // namespace angel_ptm::cuda
