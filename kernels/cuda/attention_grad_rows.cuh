// What the gradients of attention share, whatever instructions multiply: the facts about queries besides their rows, P
// and dS of a pair, and which queries see a block's keys.
#ifndef ANGEL_PTM_KERNELS_CUDA_ATTENTION_GRAD_ROWS_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ATTENTION_GRAD_ROWS_CUH_

#include <limits>

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {

// Rows of queries are padded to a multiple of this, so that every tile finds facts for all of its queries.
inline constexpr std::int64_t kFactRows = 128;
inline std::int64_t PaddedRow(std::int64_t s) { return (s + kFactRows - 1) / kFactRows * kFactRows; }

// Facts about a query. It sees keys [start, end]; queries after the row's end see none.
struct QueryFacts {
  float log2_sum = 0, delta = 0;  // log2_sum: lse in base 2
  int start = std::numeric_limits<int>::max(), end = -1;
};
APTM_DEVICE uint4 Packed(const QueryFacts& facts) {
  return {ptx::BitCast<std::uint32_t>(facts.log2_sum), ptx::BitCast<std::uint32_t>(facts.delta),
          static_cast<std::uint32_t>(facts.start), static_cast<std::uint32_t>(facts.end)};
}
APTM_DEVICE QueryFacts Unpacked(const uint4& words) {
  return {ptx::BitCast<float>(words.x), ptx::BitCast<float>(words.y), static_cast<int>(words.z),
          static_cast<int>(words.w)};
}

// The arguments of a launch.
template <typename T>
struct AttentionGradProblem {
  T *dq, *dk, *dv;
  const T *do_, *o, *q, *k, *v;
  const float* lse;
  Sight sight;
  uint4* facts;  // [Q,B,padded_s]
  std::int64_t b, s, padded_s, q_heads, kv_heads, v_stride, dv_stride;
  int d;
  float scale, log2_scale;   // log2_scale: times log2 e, because exponentials are powers of two
  bool copies_v, copies_dv;  // v and its rows, dv and its rows are aligned to 16 bytes

  APTM_DEVICE std::int64_t FactsAt(std::int64_t head, std::int64_t row) const { return (head * b + row) * padded_s; }
};
template <typename T>
AttentionGradProblem<T> ProblemOf(const AttentionGradArgs& args, std::byte* workspace) {
  return {.dq = args.dq.as<T>(),
          .dk = args.dk.as<T>(),
          .dv = args.dv.as<T>(),
          .do_ = args.do_.as<T>(),
          .o = args.o.as<T>(),
          .q = args.q.as<T>(),
          .k = args.k.as<T>(),
          .v = args.v.as<T>(),
          .lse = args.lse.as<float>(),
          .sight = SightOf(args),
          .facts = reinterpret_cast<uint4*>(workspace),
          .b = args.b,
          .s = args.s,
          .padded_s = PaddedRow(args.s),
          .q_heads = args.q_heads,
          .kv_heads = args.kv_heads,
          .v_stride = args.v_stride,
          .dv_stride = args.dv_stride,
          .d = static_cast<int>(args.d),
          .scale = args.scale,
          .log2_scale = args.scale * kLog2E,
          .copies_v = RowsAreAligned(args.v.as<T>(), args.v_stride),
          .copies_dv = RowsAreAligned(args.dv.as<T>(), args.dv_stride)};
}

inline constexpr int kPrepareLanes = 16;

// Half a warp handles a query of a head.
template <typename T>
__global__ void __launch_bounds__(kTileThreads) PrepareQueries(AttentionGradProblem<T> p) {
  const int lane = threadIdx.x % kPrepareLanes;
  const std::int64_t queries = p.b * p.padded_s * p.q_heads;
  const std::int64_t at_once = static_cast<std::int64_t>(gridDim.x) * kTileThreads / kPrepareLanes;
  const std::int64_t mine = (static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x) / kPrepareLanes;
  // queries is even, so both halves of a warp loop equally often.
  for (std::int64_t i = mine; i < queries; i += at_once) {
    const std::int64_t head = i % p.q_heads, padded = i / p.q_heads, row = padded / p.padded_s;
    const std::int64_t query = padded % p.padded_s, token = row * p.s + query;
    const bool is_query = query < p.s;
    float delta = 0;
    if (is_query && lane * kGroup < p.d) {
      const std::int64_t at = (token * p.q_heads + head) * p.d + lane * kGroup;
      float o[kGroup], do_[kGroup];
      LoadGroup(p.o + at, o);
      LoadGroup(p.do_ + at, do_);
      for (int j = 0; j < kGroup; ++j) delta += o[j] * do_[j];
    }
    for (int by = kPrepareLanes / 2; by > 0; by /= 2) delta += __shfl_xor_sync(kAllLanes, delta, by);
    if (lane != 0) continue;
    QueryFacts facts;
    if (is_query) {
      const float log2_sum = p.lse[head * p.b * p.s + token] * kLog2E, both = log2_sum + delta;
      const float hidden = both - both;  // zero, or NaN
      const int at = static_cast<int>(query);
      facts = {log2_sum + hidden, delta + hidden, p.sight.First(row, at), p.sight.Last(row, at)};
    }
    p.facts[p.FactsAt(head, row) + query] = Packed(facts);
  }
}

template <typename T>
void LaunchPrepareQueries(const AttentionGradProblem<T>& p, const LaunchContext& context) {
  Launch(Striding(p.b * p.padded_s * p.q_heads * kPrepareLanes, kTileThreads), context, &PrepareQueries<T>, p);
}

// A warp's queries, of which a lane handles two, 8 apart.
struct GradQueries : WarpQueries {
  QueryFacts facts[2];
};
template <int kRows, typename Problem>
APTM_DEVICE GradQueries GradQueriesOfLane(const Problem& p) {
  GradQueries queries;
  FindQueries<kRows>(queries, p);
  // The facts of queries after the row's end say that they see nothing; so their keys are masked one by one.
  if (queries.first + kRows > p.s) queries.last_start = static_cast<int>(p.sight.keys);
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    const int mine = queries.first + static_cast<int>(threadIdx.x) % kWarpLanes / 4 + 8 * i;
    queries.facts[i] = Unpacked(p.facts[p.FactsAt(queries.head, queries.row) + mine]);
  }
  return queries;
}

// A pair's P and dS; both are zero if the query does not see the key.
struct Pair {
  float p, ds;
};
APTM_DEVICE Pair PairGrad(float score, float dp, float log2_scale, const QueryFacts& query, bool sees) {
  const float p = exp2f(fmaf(score, log2_scale, -query.log2_sum));
  return {sees ? p : 0.0f, sees ? p * (dp - query.delta) : 0.0f};
}

// A block's keys of a row and a head, from `block_first` on, and those of one of its warps, from `first` on.
struct WarpKeys {
  std::int64_t row, kv_head;
  int block_first, first;
  int first_query, tiles;  // tiles of queries, from first_query on, in which some query sees some key of the block
};

// For a grid of (row, head) by tiles. kRows: rows of a warp; kQueries: queries of a tile.
template <int kRows, int kQueries, typename Problem>
APTM_DEVICE WarpKeys KeysOfWarp(const Problem& p) {
  constexpr int kBlockRows = kTileWarps * kRows;
  WarpKeys keys;
  const int s = static_cast<int>(p.s);
  keys.row = blockIdx.x / p.kv_heads;
  keys.kv_head = blockIdx.x % p.kv_heads;
  keys.block_first = static_cast<int>(blockIdx.y) * kBlockRows;
  keys.first = keys.block_first + WarpRow<kRows>();
  const int last = keys.block_first + kBlockRows - 1;
  keys.first_query = p.sight.IsCausal() ? keys.block_first : 0;
  int end = (s - keys.first_query + kQueries - 1) / kQueries;
  keys.tiles = keys.block_first <= p.sight.Last(keys.row, s - 1) ? 1 : 0;
  // Documents follow each other: queries that see none of the keys come after those that see some.
  while (keys.tiles > 0 && keys.tiles < end) {
    const int tile = (keys.tiles + end) / 2;
    if (p.sight.First(keys.row, keys.first_query + tile * kQueries) <= last) {
      keys.tiles = tile + 1;
    } else {
      end = tile;
    }
  }
  return keys;
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ATTENTION_GRAD_ROWS_CUH_
