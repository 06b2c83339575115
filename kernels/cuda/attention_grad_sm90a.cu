// The gradient of attention as in attention_grad.cu, for bf16 operands with fp32 sums, without atomics and in a fixed
// order, by wgmma and TMA, for sm_90a alone:
//   dv = P^T do,   dS = P (do v^T - delta),   dq = scale dS k,   dk = scale dS^T q.
//
// dq[T,Q,D], dk and dv[tokens of keys,G,D]. Bytes: 10 T Q D and 8 T G D, and the smaller side again from the cache for
// every tile. FLOPs: 14 D for a query head, a query and a key that it sees; P and dS are computed twice, because sums
// of dq in memory would have no fixed order. Limit: the tensor cores, and the exponentials, twice as many as forward.
//
// (1) PrepareQueries, as there. (2) QueryGradSm90a: a block handles 128 queries of one head and iterates over their
// keys, 64 at a time. (3) KeyGradSm90a: a block handles 128 keys of one head and iterates over the query heads of the
// group in order and over the queries that see the keys, 64 at a time; P and dS are computed transposed. In both, a
// block has three warpgroups. The last gives back its registers; one of its threads copies the block's own two tiles
// and then pairs of tiles, and the facts of queries, through a ring of 4 stages (196 KB in all for D = 128). The other
// two handle 64 rows each: scores and products of do and v by wgmma from shared memory; P and dS in registers, where
// they serve as the left operand of the sums. The products of the sums overlap the next step's scores, except in
// KeyGradSm90a for D above 64, where registers are scarce. Results leave through the block's own tiles. Elements
// outside a row or a head read as zero: D is padded to 64, 96 or 128, the sums' columns to 64 or 128. Workspace: as
// there.
//
// A weight of zero does not hide NaN. If some sums are not finite, the block adds again without the values that are not
// finite, which leaves the bits of the other sums as they are. Queries that see such a value show it by their lse or
// their delta.
#include "kernels/cuda/attention_grad_rows.cuh"
#include "kernels/cuda/attention_wgmma.cuh"

namespace angel_ptm::cuda {
namespace {

constexpr int kPairRows = 64, kStages = 4;
constexpr std::uint32_t kFactBytes = kPairRows * sizeof(uint4), kFactsOfRow = kSwizzleRowBytes / sizeof(uint4);
constexpr std::uint32_t kFactRowsOfTile = kPairRows / kFactsOfRow;

// A stage: two tiles, and facts.
template <int kD>
using PairRing = Ring<kStages, 2 * kTileBytes<kD, kPairRows> + kFactBytes>;
// The block's own tiles, the ring, and the barrier of its own tiles.
template <int kD>
constexpr std::size_t kSharedBytes = 2 * kTileBytes<kD, kTileRows> + PairRing<kD>::kBytes +
                                     sizeof(std::uint64_t) + kSwizzleAtomBytes;

using Problem = AttentionGradProblem<BFloat16>;

struct QueryMaps {
  TensorMap q, do_, k, v, dq;
};
struct KeyMaps {
  TensorMap k, v, q, do_, facts, dk, dv;
};

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
// On other architectures the kernels exist, so that the library links, and do nothing.
template <int kD>
APTM_DEVICE void SumQueryGrad(const Problem&, const QueryMaps&) {}
template <int kD>
APTM_DEVICE void SumKeyGrad(const Problem&, const KeyMaps&) {}
#else

template <int kD>
struct Block {
  unsigned char* shared;
  std::uint32_t own[2], own_full;  // shared addresses
  PairRing<kD> ring;

  APTM_DEVICE explicit Block(unsigned char* dynamic)
      : shared(dynamic),
        own{FirstTile(dynamic), FirstTile(dynamic) + kTileBytes<kD, kTileRows>},
        ring(own[1] + kTileBytes<kD, kTileRows>) {
    own_full = ring.stages + PairRing<kD>::kBytes;
    if (threadIdx.x == 0) {
      ring.Init(kTileWarps);
      ptx::MbarrierInit(own_full, 1);
      ptx::FenceMbarrierInit();
    }
    __syncthreads();
  }
  APTM_DEVICE std::uint32_t Second() const { return ring.Stage() + kTileBytes<kD, kPairRows>; }
  APTM_DEVICE unsigned char* Pointer(std::uint32_t at) const { return shared + (at - ptx::SharedAddress(shared)); }
};

// The warpgroup that copies: the block's own tiles, then a pass, and another pass if the first met values that are not
// finite.
template <int kD, typename Pass>
APTM_DEVICE void Copy(Block<kD>& block, const TensorMap* first, const TensorMap* second, std::int64_t head, int from,
                      std::int64_t row, const Pass& pass) {
  ptx::LowerRegisters<kCopyRegisters>();
  const bool copies = threadIdx.x == kTileThreads;
  if (copies) {
    ptx::MbarrierArriveExpect(block.own_full, 2 * kTileBytes<kD, kTileRows>);
    LoadHead<kD, kTileRows>(block.own[0], first, block.own_full, head, from, row);
    LoadHead<kD, kTileRows>(block.own[1], second, block.own_full, head, from, row);
    pass();
  }
  __syncwarp();
  if (AnyOfBlock(false) && copies) pass();
}

APTM_DEVICE float WeightOf(float score, float log2_scale, float log2_sum) {
  return ptx::Exp2(fmaf(score, log2_scale, -log2_sum));
}

// ---- dq ----

template <int kD>
APTM_DEVICE void SumOverKeys(float (&dq)[kSwizzledD<kD> / 2], Block<kD>& block, const Problem& p,
                             const GradQueries& queries, int steps, Values values) {
  const bool releases = threadIdx.x % kWarpLanes == 0;
  float weights[kPairRows / 2], ds[kPairRows / 2];
  std::uint32_t packed[kPairRows / 16][4];
  APTM_UNROLL for (int i = 0; i < kSwizzledD<kD> / 2; ++i) dq[i] = 0;
  APTM_UNROLL_BY(1) for (int step = 0; step < steps; ++step) {
    const int key = queries.block_first_key + step * kPairRows;
    const std::uint32_t k_tile = block.ring.Stage(), v_tile = block.Second();
    block.ring.WaitFull();
    if (values != Values::kAll) ReplaceValues<kTileBytes<kD, kPairRows> >(block.Pointer(k_tile), values);
    MultiplyHeads<kD, kPairRows>(weights, GroupRows(block.own[0]), k_tile);
    ptx::WgmmaCommit();
    MultiplyHeads<kD, kPairRows>(ds, GroupRows(block.own[1]), v_tile);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<1>();  // also for the sums of the previous step
    ptx::WgmmaSettle(weights);
    if (step > 0 && releases) block.ring.Release(1);
    const bool masked = key + kPairRows - 1 > queries.first_end || key < queries.last_start;
    APTM_UNROLL for (int i = 0; i < kPairRows / 2; ++i) {
      weights[i] = WeightOf(weights[i], p.log2_scale, queries.facts[RowOf(i)].log2_sum);
    }
    ptx::WgmmaWait<0>();
    ptx::WgmmaSettle(ds);
    APTM_UNROLL for (int i = 0; i < kPairRows / 2; ++i) {
      const QueryFacts& query = queries.facts[RowOf(i)];
      const int column = key + ColumnOf(i);
      const bool sees = !masked || (column <= query.end && column >= query.start);
      ds[i] = sees ? weights[i] * (ds[i] - query.delta) : 0.0f;
    }
    PackWeights<kPairRows>(packed, ds);
    AddHeads<kSwizzledD<kD>, kPairRows>(dq, packed, k_tile, true);
    ptx::WgmmaCommit();
    ++block.ring.used;
  }
  ptx::WgmmaWait<0>();
  ptx::WgmmaSettle(dq);
  if (releases) block.ring.Release(1);
}

template <int kD>
APTM_DEVICE void SumQueryGrad(const Problem& p, const QueryMaps& maps) {
  APTM_DYNAMIC_SHARED(shared);
  Block<kD> block(shared);
  if (threadIdx.x >= kTileThreads) {
    WarpQueries queries;
    FindQueries<kWarpRows>(queries, p);
    Copy<kD>(block, &maps.q, &maps.do_, queries.head, queries.block_first, queries.row, [&] {
      for (int key = queries.block_first_key; key <= queries.block_last_key; key += kPairRows, ++block.ring.used) {
        const std::uint32_t full = block.ring.Full();
        block.ring.Expect(2 * kTileBytes<kD, kPairRows>);
        LoadHead<kD, kPairRows>(block.ring.Stage(), &maps.k, full, queries.kv_head, key, queries.row);
        LoadHead<kD, kPairRows>(block.Second(), &maps.v, full, queries.kv_head, key, queries.row);
      }
    });
    return;
  }
  ptx::RaiseRegisters<kMultiplyRegisters>();
  const GradQueries queries = GradQueriesOfLane<kWarpRows>(p);
  const int steps = (queries.block_last_key - queries.block_first_key) / kPairRows + 1;
  float dq[kSwizzledD<kD> / 2];
  ptx::MbarrierWait(block.own_full, 0);
  for (Values values = Values::kAll;; values = Values::kFinite) {
    SumOverKeys<kD>(dq, block, p, queries, steps, values);
    if (values == Values::kFinite || !AnyOfBlock(AnyNotFinite(dq))) break;
  }
  StoreHeads<kSwizzledD<kD> >(&maps.dq, queries.head, queries.block_first, queries.row, block.own[0], shared, dq,
                              {p.scale, p.scale});
  ptx::BulkWaitRead<0>();
}

// ---- dk and dv ----

template <int kD>
struct KeySums {
  float dk[kSwizzledD<kD> / 2], dv[kSwizzledD<kD> / 2];
};

// The facts of a stage's queries, eight to a row and swizzled within it. At(i): the facts of the query that element i
// of a thread's part of the products belongs to, addressed as one of four places per lane plus an offset that the
// compiler knows.
struct StageFacts {
  const unsigned char* facts;

  APTM_DEVICE const unsigned char* At(int i) const {
    const int row = i / 4, pair = static_cast<int>(threadIdx.x) % 4 * 2 ^ row % 8 / 2 * 2, within = (i ^ row) % 2;
    return facts + pair * static_cast<int>(sizeof(uint4)) +
           (row * static_cast<int>(kSwizzleRowBytes) + within * static_cast<int>(sizeof(uint4)));
  }
  APTM_DEVICE float Log2Sum(int i) const { return reinterpret_cast<const float*>(At(i))[0]; }
  APTM_DEVICE float Delta(int i) const { return reinterpret_cast<const float*>(At(i))[1]; }
};

// The queries of the row, [first, last], that see each of a lane's two keys, which are 8 apart; and those that see all
// keys of its warp.
struct Viewers {
  int first[2], last[2], all_first, all_last;
};
APTM_DEVICE Viewers ViewersOf(const Problem& p, const WarpKeys& keys) {
  Viewers viewers;
  APTM_UNROLL for (int r = 0; r < 2; ++r) {
    const int key = keys.first + static_cast<int>(threadIdx.x) % kWarpLanes / 4 + 8 * r, s = static_cast<int>(p.s);
    viewers.first[r] = p.sight.IsCausal() ? key : 0;
    // Documents follow each other, so the queries that see the key are the first ones, counted from `first` on.
    int begin = viewers.first[r], end = key <= p.sight.Last(keys.row, s - 1) ? s : begin;
    while (p.sight.IsCausal() && begin < end) {
      const int middle = (begin + end) / 2;
      if (p.sight.First(keys.row, middle) <= key) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    viewers.last[r] = end - 1;
  }
  viewers.all_first = __shfl_sync(kAllLanes, viewers.first[1], kWarpLanes - 1);
  const int of_first = __shfl_sync(kAllLanes, viewers.last[0], 0);
  const int of_last = __shfl_sync(kAllLanes, viewers.last[1], kWarpLanes - 1);
  viewers.all_last = of_first < of_last ? of_first : of_last;
  return viewers;
}

template <int kD>
APTM_DEVICE void SumOverQueries(KeySums<kD>& sums, Block<kD>& block, float log2_scale, const WarpKeys& keys,
                                const Viewers& viewers, int steps, Values values) {
  const bool releases = threadIdx.x % kWarpLanes == 0;
  const int end = keys.first_query + keys.tiles * kPairRows;
  int query = keys.first_query;
  float weights[kPairRows / 2], ds[kPairRows / 2];
  std::uint32_t packed_weights[kPairRows / 16][4], packed_ds[kPairRows / 16][4];
  APTM_UNROLL for (int i = 0; i < kSwizzledD<kD> / 2; ++i) sums.dk[i] = sums.dv[i] = 0;
  APTM_UNROLL_BY(1) for (int step = 0; step < steps; ++step) {
    const std::uint32_t q_tile = block.ring.Stage(), do_tile = block.Second();
    const StageFacts facts = {block.Pointer(do_tile + kTileBytes<kD, kPairRows>)};
    block.ring.WaitFull();
    if (values != Values::kAll) ReplaceValues<2 * kTileBytes<kD, kPairRows> >(block.Pointer(q_tile), values);
    MultiplyHeads<kD, kPairRows>(weights, GroupRows(block.own[0]), q_tile);
    MultiplyHeads<kD, kPairRows>(ds, GroupRows(block.own[1]), do_tile);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();  // also for the sums of the previous step
    ptx::WgmmaSettle(weights);
    ptx::WgmmaSettle(ds);
    __syncwarp();  // no lane still reads facts of the previous step
    if (step > 0 && releases) block.ring.Release(1);
    const bool masked = query < viewers.all_first || query + kPairRows - 1 > viewers.all_last;
    APTM_UNROLL for (int i = 0; i < kPairRows / 2; ++i) {
      const int at = query + ColumnOf(i);
      const bool seen = !masked || (at >= viewers.first[RowOf(i)] && at <= viewers.last[RowOf(i)]);
      const float weight = WeightOf(weights[i], log2_scale, facts.Log2Sum(i));
      weights[i] = seen ? weight : 0.0f;
      ds[i] = seen ? weight * (ds[i] - facts.Delta(i)) : 0.0f;
    }
    query = query + kPairRows == end ? keys.first_query : query + kPairRows;
    PackWeights<kPairRows>(packed_weights, weights);
    PackWeights<kPairRows>(packed_ds, ds);
    AddHeads<kSwizzledD<kD>, kPairRows>(sums.dv, packed_weights, do_tile, true);
    AddHeads<kSwizzledD<kD>, kPairRows>(sums.dk, packed_ds, q_tile, true);
    ptx::WgmmaCommit();
    // Where registers are scarce, the next scores do not coexist with the left operands of the sums.
    if constexpr (kD > 64) ptx::WgmmaWait<0>();
    ++block.ring.used;
  }
  ptx::WgmmaWait<0>();
  ptx::WgmmaSettle(sums.dk);
  ptx::WgmmaSettle(sums.dv);
  if (steps > 0 && releases) block.ring.Release(1);
}

template <int kD>
APTM_DEVICE void SumKeyGrad(const Problem& p, const KeyMaps& maps) {
  APTM_DYNAMIC_SHARED(shared);
  Block<kD> block(shared);
  const WarpKeys keys = KeysOfWarp<kWarpRows, kPairRows>(p);
  const int group = static_cast<int>(p.q_heads / p.kv_heads);
  if (threadIdx.x >= kTileThreads) {
    Copy<kD>(block, &maps.k, &maps.v, keys.kv_head, keys.block_first, keys.row, [&] {
      for (int of_group = 0; of_group < group; ++of_group) {
        const int head = static_cast<int>(keys.kv_head) * group + of_group;
        const std::int64_t first_facts = p.FactsAt(head, keys.row) + keys.first_query;
        for (int tile = 0; tile < keys.tiles; ++tile, ++block.ring.used) {
          const int query = keys.first_query + tile * kPairRows;
          const std::uint32_t full = block.ring.Full(), facts = block.Second() + kTileBytes<kD, kPairRows>;
          block.ring.Expect(2 * kTileBytes<kD, kPairRows> + kFactBytes);
          LoadHead<kD, kPairRows>(block.ring.Stage(), &maps.q, full, head, query, keys.row);
          LoadHead<kD, kPairRows>(block.Second(), &maps.do_, full, head, query, keys.row);
          ptx::TensorLoad2d(facts, &maps.facts, full, 0,
                            static_cast<int>(first_facts / kFactsOfRow) + tile * static_cast<int>(kFactRowsOfTile));
        }
      }
    });
    return;
  }
  ptx::RaiseRegisters<kMultiplyRegisters>();
  const Viewers viewers = ViewersOf(p, keys);
  KeySums<kD> sums;
  ptx::MbarrierWait(block.own_full, 0);
  for (Values values = Values::kAll;; values = Values::kFinite) {
    SumOverQueries<kD>(sums, block, p.log2_scale, keys, viewers, group * keys.tiles, values);
    if (values == Values::kFinite || !AnyOfBlock(AnyNotFinite(sums.dk) || AnyNotFinite(sums.dv))) break;
  }
  StoreHeads<kSwizzledD<kD> >(&maps.dk, keys.kv_head, keys.block_first, keys.row, block.own[0], shared, sums.dk,
                              {p.scale, p.scale});
  StoreHeads<kSwizzledD<kD> >(&maps.dv, keys.kv_head, keys.block_first, keys.row, block.own[1], shared, sums.dv,
                              {1.0f, 1.0f});
  ptx::BulkWaitRead<0>();
}

#endif

template <int kD>
__global__ void __launch_bounds__(kWgmmaThreads, 1) QueryGradSm90a(Problem p, const __grid_constant__ QueryMaps maps) {
  SumQueryGrad<kD>(p, maps);
}
template <int kD>
__global__ void __launch_bounds__(kWgmmaThreads, 1) KeyGradSm90a(Problem p, const __grid_constant__ KeyMaps maps) {
  SumKeyGrad<kD>(p, maps);
}

TensorMap MapOfFacts(const Problem& p) {
  const std::int64_t rows = p.q_heads * p.b * p.padded_s / kFactsOfRow;
  return MapOf({.data = reinterpret_cast<const BFloat16*>(p.facts),
                .rows = rows,
                .columns = kSwizzleColumns,
                .stride = kSwizzleColumns,
                .is_aligned = true},
               kSwizzleColumns, kFactRowsOfTile);
}

}  // namespace

void LaunchAttentionGradSm90a(const AttentionGradArgs& args, const LaunchContext& context) {
  const Problem p = ProblemOf<BFloat16>(args, context.workspace);
  LaunchPrepareQueries(p, context);
  const auto queries = [&](const BFloat16* data, std::uint32_t rows) {
    return MapOfHeads(data, p.d, p.q_heads, p.s, p.b, p.q_heads * p.d, rows);
  };
  const auto keys = [&](const BFloat16* data, std::int64_t stride, std::uint32_t rows) {
    return MapOfHeads(data, p.d, p.kv_heads, p.sight.keys, p.b, stride, rows);
  };
  const std::int64_t k_stride = p.kv_heads * p.d;
  const QueryMaps of_queries = {.q = queries(p.q, kTileRows),
                                .do_ = queries(p.do_, kTileRows),
                                .k = keys(p.k, k_stride, kPairRows),
                                .v = keys(p.v, p.v_stride, kPairRows),
                                .dq = queries(p.dq, kGroupRows)};
  const KeyMaps of_keys = {.k = keys(p.k, k_stride, kTileRows),
                           .v = keys(p.v, p.v_stride, kTileRows),
                           .q = queries(p.q, kPairRows),
                           .do_ = queries(p.do_, kPairRows),
                           .facts = MapOfFacts(p),
                           .dk = keys(p.dk, k_stride, kGroupRows),
                           .dv = keys(p.dv, p.dv_stride, kGroupRows)};
  WithHeadDim(args.d, [&](auto dim) {
    constexpr int kD = decltype(dim)::kPadded;
    LaunchShape shape = {
        .grid = {.x = static_cast<unsigned>(p.b * p.q_heads), .y = static_cast<unsigned>(p.padded_s / kTileRows)},
        .block = {.x = kWgmmaThreads},
        .shared_bytes = kSharedBytes<kD>,
        .registers = kLaunchRegisters};
    Launch(shape, context, &QueryGradSm90a<kD>, p, of_queries);
    shape.grid = {.x = static_cast<unsigned>(p.b * p.kv_heads),
                  .y = static_cast<unsigned>((p.sight.keys + kTileRows - 1) / kTileRows)};
    Launch(shape, context, &KeyGradSm90a<kD>, p, of_keys);
  });
}

static_assert(kFactRows % kTileRows == 0 && kGroupRows == kPairRows);

}  // namespace angel_ptm::cuda
