// The gradient of attention (kernels/ops/attention.h), bf16 operands and fp32 sums, without atomics and in a fixed
// order (Dao 2023, FlashAttention-2, algorithm 2, as two kernels): mma.sync and cp.async, for every GPU from sm_80 on.
// With P = exp(scale q k^T - lse) and delta = rowsum(do * o):
//   dv = P^T do,   dS = P (do v^T - delta),   dq = scale dS k,   dk = scale dS^T q.
//
// dq[T,Q,D], dk and dv[tokens of keys,G,D]. Bytes: 10 T Q D and 8 T G D, the smaller side again from the cache for
// every tile; FLOPs: 14 D for a query head, a query and a key that it sees: P and dS are computed twice, 10 D would do
// with sums of dq in memory, whose order would not be fixed. Limit: the tensor cores, of which mma.sync reaches about
// 65 % on sm_90, and the exponentials.
//
// (1) PrepareQueries: what queries are asked for besides their rows, 16 bytes each. (2) QueryGrad: a block of 8 warps
// takes 128 queries of one head, a warp 16, and goes over their keys, 64 at a time. (3) KeyGrad: a block takes 128 keys
// of one head, a warp 16, and goes over the query heads of the group in order and over those who see the keys, 32 at a
// time, so a sum has one order; P and dS are made transposed, as the left operand of what follows. Both have a ring of
// two stages beside their own rows (140 KB and 105 KB for D above 96) and pass over tiles that see nothing. D is padded
// with zeros to 64, 96 or 128. Blocks with most to do start first. Workspace: 16 bytes for every query and head, rows
// padded to 128.
//
// A weight of zero does not hide NaN: where sums are not finite the block adds again without the values that are not
// finite, which leaves the other sums' bits as they are. Who sees such a value shows it all the same: its lse or its
// delta is not finite, so both are made NaN.
#include <cmath>
#include <limits>

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/attention.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kKeys = 64, kQueries = 32, kStages = 2, kRowLanes = 16, kUnrolled = 2;

template <int kD>
constexpr std::size_t kRowBytes = (kD + kRowPad) * sizeof(std::uint16_t);
template <int kD>
constexpr std::size_t kQueryGradBytes = (2 * kTileRows + kStages * 2 * kKeys) * kRowBytes<kD>;
template <int kD>
constexpr std::size_t kKeyGradStage = 2 * kQueries* kRowBytes<kD> + kQueries * sizeof(uint4);
template <int kD>
constexpr std::size_t kKeyGradBytes = 2 * kTileRows* kRowBytes<kD> + kStages* kKeyGradStage<kD>;

// Keys [start, end] are seen; behind the row's end none.
struct QueryFacts {
  float log2_sum = 0, delta = 0;  // lse as a power of two
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

struct Problem {
  BFloat16 *dq, *dk, *dv;
  const BFloat16 *do_, *o, *q, *k, *v;
  const float* lse;
  Sight sight;
  uint4* facts;  // [Q,B,padded_s]
  std::int64_t b, s, padded_s, q_heads, kv_heads, v_stride, dv_stride;
  int d;
  float scale, log2_scale;   // log2_scale: times log2 e, exponentials are powers of two
  bool copies_v, copies_dv;  // they are aligned to 16 bytes

  APTM_DEVICE std::int64_t FactsAt(std::int64_t head, std::int64_t row) const { return (head * b + row) * padded_s; }
};

// Half a warp takes a query of a head.
__global__ void __launch_bounds__(kTileThreads) PrepareQueries(Problem p) {
  const int lane = threadIdx.x % kRowLanes;
  const std::int64_t queries = p.b * p.padded_s * p.q_heads;
  const std::int64_t at_once = static_cast<std::int64_t>(gridDim.x) * kTileThreads / kRowLanes;
  const std::int64_t mine = (static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x) / kRowLanes;
  // queries is even, so both halves of a warp go round as often.
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
    for (int by = kRowLanes / 2; by > 0; by /= 2) delta += __shfl_xor_sync(kAllLanes, delta, by);
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

// A pair's P and dS; both are zero if the query does not see the key.
struct Pair {
  float p, ds;
};
APTM_DEVICE Pair PairGrad(float score, float dp, float log2_scale, const QueryFacts& query, bool sees) {
  const float p = exp2f(fmaf(score, log2_scale, -query.log2_sum));
  return {sees ? p : 0.0f, sees ? p * (dp - query.delta) : 0.0f};
}

// ---- dq ----

struct MyQueries : WarpQueries {
  QueryFacts facts[2];
};

APTM_DEVICE MyQueries QueriesOfWarp(const Problem& p) {
  MyQueries queries;
  FindQueries(queries, p);
  const int lane = threadIdx.x % kWarpLanes;
  // The facts of queries behind the row's end say that they see nothing, so their keys are masked one by one.
  if (queries.first + kWarpRows > p.s) queries.last_start = static_cast<int>(p.sight.keys);
  APTM_UNROLL for (int i = 0; i < 2; ++i) {
    const int mine = queries.first + lane / 4 + 8 * i;
    queries.facts[i] = Unpacked(p.facts[p.FactsAt(queries.head, queries.row) + mine]);
  }
  return queries;
}

// dS of the warp's queries and a tile of keys.
template <int kD>
APTM_DEVICE void ScoreGrads(float (&ds)[kKeys / 8][4], const std::uint16_t* q_tile, const std::uint16_t* k_tile,
                            const Problem& p, const MyQueries& queries, int key) {
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
                             const MyQueries& queries) {
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
  const MyQueries queries = QueriesOfWarp(p);
  const std::int64_t stride = p.q_heads * p.d;
  const std::int64_t at = (queries.row * p.s + queries.block_first) * stride + queries.head * p.d;
  const int count = static_cast<int>(p.s) - queries.block_first;
  LoadRows<kTileRows, kD, true>(q_tile, p.q + at, stride, count, p.d);
  LoadRows<kTileRows, kD, true>(q_tile + kTileRows * (kD + kRowPad), p.do_ + at, stride, count, p.d);
  float dq[kD / 8][4];
  SumOverKeys<kD, Values::kAll>(dq, q_tile, p, queries);
  if (AnyOfBlock(HasNotFinite<kD>(dq))) SumOverKeys<kD, Values::kFinite>(dq, q_tile, p, queries);
  StoreRows<kD>(p.dq + at + WarpRow() * stride, stride, count - WarpRow(), p.d, true,
                q_tile + WarpRow() * (kD + kRowPad), dq, {p.scale, p.scale});
}

// ---- dk and dv ----

struct MyKeys {
  std::int64_t row, kv_head;
  int block_first, first;
  int first_query, tiles;  // tiles of queries, from first_query on, of which some see some key of the block
};

APTM_DEVICE MyKeys KeysOfWarp(const Problem& p) {
  MyKeys keys;
  const int s = static_cast<int>(p.s);
  keys.row = blockIdx.x / p.kv_heads;
  keys.kv_head = blockIdx.x % p.kv_heads;
  keys.block_first = static_cast<int>(blockIdx.y) * kTileRows;
  keys.first = keys.block_first + WarpRow();
  const int last = keys.block_first + kTileRows - 1;
  keys.first_query = p.sight.IsCausal() ? keys.block_first : 0;
  int end = (s - keys.first_query + kQueries - 1) / kQueries;
  keys.tiles = keys.block_first <= p.sight.Last(keys.row, s - 1) ? 1 : 0;
  // Documents follow each other: who sees nothing is behind those who see something.
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
APTM_DEVICE void SumOverQueries(KeySums<kD>& sums, unsigned char* shared, const Problem& p, const MyKeys& keys) {
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
  ptx::CopyAsyncWait<0>();  // the keys' own rows, too, if no query sees them
}

template <int kD>
__global__ void __launch_bounds__(kTileThreads) KeyGrad(Problem p) {
  APTM_DYNAMIC_SHARED(shared);
  constexpr int kPitch = kD + kRowPad;
  std::uint16_t* const k_tile = reinterpret_cast<std::uint16_t*>(shared);
  std::uint16_t* const v_tile = k_tile + kTileRows * kPitch;
  const MyKeys keys = KeysOfWarp(p);
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
  const std::int64_t first = token + WarpRow();
  StoreRows<kD>(p.dk + first * k_stride + column, k_stride, count - WarpRow(), p.d, true, k_tile + WarpRow() * kPitch,
                sums.dk, {p.scale, p.scale});
  StoreRows<kD>(p.dv + first * p.dv_stride + column, p.dv_stride, count - WarpRow(), p.d, p.copies_dv,
                v_tile + WarpRow() * kPitch, sums.dv, {1.0f, 1.0f});
}

std::int64_t PaddedRow(const AttentionGradArgs& args) { return (args.s + kTileRows - 1) / kTileRows * kTileRows; }

}  // namespace

std::int64_t WorkspaceBytes(const AttentionGradArgs& args) {
  if (args.d > kTiledDimMax) return 0;
  return args.q_heads * args.b * PaddedRow(args) * static_cast<std::int64_t>(sizeof(uint4));
}

void LaunchAttentionGrad(const AttentionGradArgs& args, const LaunchContext& context) {
  if (args.d > kTiledDimMax) return LaunchWideAttentionGrad(args, context);
  const Problem p = {.dq = args.dq.as<BFloat16>(),
                     .dk = args.dk.as<BFloat16>(),
                     .dv = args.dv.as<BFloat16>(),
                     .do_ = args.do_.as<BFloat16>(),
                     .o = args.o.as<BFloat16>(),
                     .q = args.q.as<BFloat16>(),
                     .k = args.k.as<BFloat16>(),
                     .v = args.v.as<BFloat16>(),
                     .lse = args.lse.as<float>(),
                     .sight = SightOf(args),
                     .facts = reinterpret_cast<uint4*>(context.workspace),
                     .b = args.b,
                     .s = args.s,
                     .padded_s = PaddedRow(args),
                     .q_heads = args.q_heads,
                     .kv_heads = args.kv_heads,
                     .v_stride = args.v_stride,
                     .dv_stride = args.dv_stride,
                     .d = static_cast<int>(args.d),
                     .scale = args.scale,
                     .log2_scale = args.scale * kLog2E,
                     .copies_v = RowsAreAligned(args.v.data, args.v_stride),
                     .copies_dv = RowsAreAligned(args.dv.data, args.dv_stride)};
  Launch(Striding(p.b * p.padded_s * p.q_heads * kRowLanes, kTileThreads), context, &PrepareQueries, p);
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
