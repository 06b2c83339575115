// The gradient of attention (kernels/ops/attention.h) for bf16 operands with fp32 sums, without atomics and in a fixed
// order (Dao 2023, FlashAttention-2, algorithm 2, as two kernels), by mma.sync and cp.async, for every GPU from sm_80
// on. With P = exp(scale q k^T - lse) and delta = rowsum(do * o):
//   dv = P^T do,   dS = P (do v^T - delta),   dq = scale dS k,   dk = scale dS^T q.
//
// dq[T,Q,D], dk and dv[tokens of keys,G,D]. Bytes: 10 T Q D and 8 T G D, and the smaller side again from the cache for
// every tile. FLOPs: 14 D for a query head, a query and a key that it sees: P and dS are computed twice. 10 D would
// suffice with sums of dq in memory, but their order would not be fixed. Limit: the tensor cores, of which mma.sync
// reaches about 65 % on sm_90, and the exponentials.
//
// (1) PrepareQueries: the facts about queries besides their rows, 16 bytes each. (2) QueryGrad: a block of 8 warps
// handles 128 queries of one head, a warp 16, and iterates over their keys, 64 at a time. (3) KeyGrad: a block handles
// 128 keys of one head, a warp 16, and iterates over the query heads of the group in order and over the queries that
// see the keys, 32 at a time, so a sum has a single order; P and dS are computed transposed, as the left operand of the
// next products. Both have a ring of two stages beside their own rows (140 KB and 105 KB for D above 96) and skip tiles
// without a visible pair. D is padded with zeros to 64, 96 or 128. Blocks with the most work start first. Workspace: 16
// bytes for every query and head, with rows padded to 128.
//
// A weight of zero does not hide NaN. If some sums are not finite, the block adds again without the values that are not
// finite, which leaves the bits of the other sums as they are. Queries that do see such a value still show it: their
// lse or their delta is not finite, so both are made NaN.
#include <cmath>

#include "kernels/cuda/attention_grad_rows.cuh"
#include "kernels/cuda/attention_tiles.cuh"

namespace angel_ptm::cuda {
namespace {

constexpr int kKeys = 64, kQueries = 32, kStages = 2, kUnrolled = 2;

template <int kD>
constexpr std::size_t kRowBytes = (kD + kRowPad) * sizeof(std::uint16_t);
template <int kD>
constexpr std::size_t kQueryGradBytes = (2 * kTileRows + kStages * 2 * kKeys) * kRowBytes<kD>;
template <int kD>
constexpr std::size_t kKeyGradStage = 2 * kQueries* kRowBytes<kD> + kQueries * sizeof(uint4);
template <int kD>
constexpr std::size_t kKeyGradBytes = 2 * kTileRows* kRowBytes<kD> + kStages* kKeyGradStage<kD>;

using Problem = AttentionGradProblem<BFloat16>;

// ---- dq ----

// Computes dS of the warp's queries and a tile of keys.
template <int kD>
APTM_DEVICE void ScoreGrads(float (&ds)[kKeys / 8][4], const std::uint16_t* q_tile, const std::uint16_t* k_tile,
                            const Problem& p, const GradQueries& queries, int key) {
  float scores[kKeys / 8][4] = {};
  MultiplyRows<kD, kKeys, kUnrolled>(scores, q_tile, k_tile);
  MultiplyRows<kD, kKeys, kUnrolled>(ds, q_tile + kTileRows * (kD + kRowPad), k_tile + kKeys * (kD + kRowPad));
  const bool masked = key + kKeys - 1 > queries.first_end || key < queries.last_start;
  APTM_UNROLL for (int j = 0; j < kKeys / 8; ++j) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) {
      const int column = key + 8 * j + static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
      const QueryFacts& query = queries.facts[e / 2];
      const bool sees = !masked || (column <= query.end && column >= query.start);
      ds[j][e] = PairGrad(scores[j][e], ds[j][e], p.log2_scale, query, sees).ds;
    }
  }
}

template <int kD, Values kValues>
APTM_DEVICE void SumOverKeys(float (&dq)[kD / 8][4], std::uint16_t* q_tile, const Problem& p,
                             const GradQueries& queries) {
  constexpr int kTileElements = kKeys * (kD + kRowPad);
  const std::int64_t row = queries.row * p.sight.keys, k_stride = p.kv_heads * p.d;
  const int first_key = queries.block_first_key, steps = (queries.block_last_key - first_key) / kKeys + 1;
  std::uint16_t* const ring = q_tile + 2 * kTileRows * (kD + kRowPad);
  const auto load = [&](int step) {
    std::uint16_t* const stage = ring + step % kStages * 2 * kTileElements;
    const int key = first_key + step * kKeys, keys = static_cast<int>(p.sight.keys) - key;
    if (step < steps) {
      const BFloat16* const k = p.k + (row + key) * k_stride + queries.kv_head * p.d;
      const BFloat16* const v = p.v + (row + key) * p.v_stride + queries.kv_head * p.d;
      LoadRows<kKeys, kD, true>(stage, k, k_stride, keys, p.d);
      LoadValues<kKeys, kD>(stage + kTileElements, v, p.v_stride, keys, p.d, p.copies_v);
    }
    ptx::CopyAsyncCommit();
  };
  APTM_UNROLL for (int n = 0; n < kD / 8; ++n) { APTM_UNROLL for (int e = 0; e < 4; ++e) dq[n][e] = 0; }
  load(0);
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<0>();
    __syncthreads();  // all of this step is there, and the other stage is free
    load(step + 1);
    const int key = first_key + step * kKeys;
    if (key > queries.last_key || key + kKeys <= queries.first_key) continue;
    const std::uint16_t* const k_tile = ring + step % kStages * 2 * kTileElements;
    float ds[kKeys / 8][4] = {};
    ScoreGrads<kD>(ds, q_tile, k_tile, p, queries, key);
    AddRows<kD, kKeys, kValues>(dq, ds, k_tile);
  }
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads) QueryGrad(Problem p) {
  APTM_DYNAMIC_SHARED(shared);
  std::uint16_t* const q_tile = reinterpret_cast<std::uint16_t*>(shared);
  const GradQueries queries = GradQueriesOfLane<kWarpRows>(p);
  const std::int64_t stride = p.q_heads * p.d;
  const std::int64_t at = (queries.row * p.s + queries.block_first) * stride + queries.head * p.d;
  const int count = static_cast<int>(p.s) - queries.block_first;
  LoadRows<kTileRows, kD, true>(q_tile, p.q + at, stride, count, p.d);
  LoadRows<kTileRows, kD, true>(q_tile + kTileRows * (kD + kRowPad), p.do_ + at, stride, count, p.d);
  float dq[kD / 8][4];
  SumOverKeys<kD, Values::kAll>(dq, q_tile, p, queries);
  if (AnyOfBlock(HasNotFinite<kD>(dq))) SumOverKeys<kD, Values::kFinite>(dq, q_tile, p, queries);
  StoreRows<kD>(p.dq + at + WarpRow<kWarpRows>() * stride, stride, count - WarpRow<kWarpRows>(), p.d, true,
                q_tile + WarpRow<kWarpRows>() * (kD + kRowPad), dq, {p.scale, p.scale});
}

// ---- dk and dv ----

template <int kD>
struct KeySums {
  float dk[kD / 8][4], dv[kD / 8][4];
};

template <int kD, Values kValues>
APTM_DEVICE void AddQueries(KeySums<kD>& sums, const std::uint16_t* k_tile, const std::uint16_t* q_tile,
                            const Problem& p, int key) {
  constexpr int kPitch = kD + kRowPad;
  const std::uint16_t* const do_tile = q_tile + kQueries * kPitch;
  const uint4* const facts = reinterpret_cast<const uint4*>(do_tile + kQueries * kPitch);
  const int lane = threadIdx.x % kWarpLanes, last_start = Unpacked(facts[kQueries - 1]).start;
  const QueryFacts first = Unpacked(facts[0]);
  if (key > first.end + kQueries - 1 || first.start > key + kWarpRows - 1) return;
  const bool masked = key + kWarpRows - 1 > first.end || last_start > key;
  float weights[kQueries / 8][4] = {}, ds[kQueries / 8][4] = {};
  MultiplyRows<kD, kQueries, kUnrolled>(weights, k_tile, q_tile);
  MultiplyRows<kD, kQueries, kUnrolled>(ds, k_tile + kTileRows * kPitch, do_tile);
  APTM_UNROLL for (int j = 0; j < kQueries / 8; ++j) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) {
      const int column = 8 * j + lane % 4 * 2 + e % 2, row = key + lane / 4 + e / 2 * 8;
      const QueryFacts of_query = Unpacked(facts[column]);
      const bool sees = !masked || (row <= of_query.end && row >= of_query.start);
      const Pair pair = PairGrad(weights[j][e], ds[j][e], p.log2_scale, of_query, sees);
      weights[j][e] = pair.p;
      ds[j][e] = pair.ds;
    }
  }
  AddRows<kD, kQueries, kValues>(sums.dv, weights, do_tile);
  AddRows<kD, kQueries, kValues>(sums.dk, ds, q_tile);
}

template <int kD, Values kValues>
APTM_DEVICE void SumOverQueries(KeySums<kD>& sums, unsigned char* shared, const Problem& p, const WarpKeys& keys) {
  constexpr int kPitch = kD + kRowPad;
  const std::int64_t group = p.q_heads / p.kv_heads, stride = p.q_heads * p.d;
  const int steps = static_cast<int>(group) * keys.tiles;
  const auto stage_of = [&](int step) {
    return reinterpret_cast<std::uint16_t*>(shared + 2 * kTileRows * kRowBytes<kD> +
                                            step % kStages * kKeyGradStage<kD>);
  };
  const auto load = [&](int step) {
    if (step < steps) {
      std::uint16_t* const stage = stage_of(step);
      const int query = keys.first_query + step % keys.tiles * kQueries, queries = static_cast<int>(p.s) - query;
      const std::int64_t head = keys.kv_head * group + step / keys.tiles;
      const std::int64_t at = (keys.row * p.s + query) * stride + head * p.d;
      LoadRows<kQueries, kD, true>(stage, p.q + at, stride, queries, p.d);
      LoadRows<kQueries, kD, true>(stage + kQueries * kPitch, p.do_ + at, stride, queries, p.d);
      if (threadIdx.x < kQueries) {
        ptx::CopyAsync16(ptx::SharedAddress(stage + 2 * kQueries * kPitch) + threadIdx.x * sizeof(uint4),
                         p.facts + p.FactsAt(head, keys.row) + query + threadIdx.x, true);
      }
    }
    ptx::CopyAsyncCommit();
  };
  APTM_UNROLL for (int n = 0; n < kD / 8; ++n) {
    APTM_UNROLL for (int e = 0; e < 4; ++e) sums.dk[n][e] = sums.dv[n][e] = 0;
  }
  load(0);
  for (int step = 0; step < steps; ++step) {
    ptx::CopyAsyncWait<0>();
    __syncthreads();  // all of this step is there, and the other stage is free
    load(step + 1);
    AddQueries<kD, kValues>(sums, reinterpret_cast<const std::uint16_t*>(shared), stage_of(step), p, keys.first);
  }
  ptx::CopyAsyncWait<0>();  // without any step, the copies of the block's own rows are still in flight
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads) KeyGrad(Problem p) {
  APTM_DYNAMIC_SHARED(shared);
  constexpr int kPitch = kD + kRowPad;
  std::uint16_t* const k_tile = reinterpret_cast<std::uint16_t*>(shared);
  std::uint16_t* const v_tile = k_tile + kTileRows * kPitch;
  const WarpKeys keys = KeysOfWarp<kWarpRows, kQueries>(p);
  const std::int64_t token = keys.row * p.sight.keys + keys.block_first, column = keys.kv_head * p.d;
  const std::int64_t k_stride = p.kv_heads * p.d;
  const int count = static_cast<int>(p.sight.keys) - keys.block_first;
  LoadRows<kTileRows, kD, true>(k_tile, p.k + token * k_stride + column, k_stride, count, p.d);
  LoadValues<kTileRows, kD>(v_tile, p.v + token * p.v_stride + column, p.v_stride, count, p.d, p.copies_v);
  KeySums<kD> sums;
  SumOverQueries<kD, Values::kAll>(sums, shared, p, keys);
  if (AnyOfBlock(HasNotFinite<kD>(sums.dk) || HasNotFinite<kD>(sums.dv))) {
    SumOverQueries<kD, Values::kFinite>(sums, shared, p, keys);
  }
  const std::int64_t first = token + WarpRow<kWarpRows>();
  StoreRows<kD>(p.dk + first * k_stride + column, k_stride, count - WarpRow<kWarpRows>(), p.d, true,
                k_tile + WarpRow<kWarpRows>() * kPitch, sums.dk, {p.scale, p.scale});
  StoreRows<kD>(p.dv + first * p.dv_stride + column, p.dv_stride, count - WarpRow<kWarpRows>(), p.d, p.copies_dv,
                v_tile + WarpRow<kWarpRows>() * kPitch, sums.dv, {1.0f, 1.0f});
}

static_assert(kFactRows % kTileRows == 0);

}  // namespace

std::int64_t WorkspaceBytes(const AttentionGradArgs& args) {
  if (args.d > kTiledDimMax) return 0;
  return args.q_heads * args.b * PaddedRow(args.s) * static_cast<std::int64_t>(sizeof(uint4));
}

void LaunchAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context) {
  if (args.d > kTiledDimMax) return LaunchWideAttentionGrad(args, context);
  if (args.q.dtype == DType::kFloat32) return LaunchFmaAttentionGrad(args, context);
  const Problem p = ProblemOf<BFloat16>(args, context.workspace);
  LaunchPrepareQueries(p, context);
  LaunchShape shape = {
      .grid = {.x = static_cast<unsigned>(p.b * p.q_heads), .y = static_cast<unsigned>(p.padded_s / kTileRows)},
      .block = {.x = kTileThreads}};
  WithHeadDim(args.d, [&](auto dim) {
    constexpr int kD = decltype(dim)::kPadded;
    shape.shared_bytes = kQueryGradBytes<kD>;
    Launch(shape, context, &QueryGrad<kD>, p);
    shape.grid = {.x = static_cast<unsigned>(p.b * p.kv_heads),
                  .y = static_cast<unsigned>((p.sight.keys + kTileRows - 1) / kTileRows)};
    shape.shared_bytes = kKeyGradBytes<kD>;
    Launch(shape, context, &KeyGrad<kD>, p);
  });
}

}  // namespace angel_ptm::cuda
