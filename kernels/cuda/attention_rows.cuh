// What attention forward and backward share, whatever instructions multiply: which queries see which keys, and rows in
// shared memory.
#ifndef ANGEL_PTM_KERNELS_CUDA_ATTENTION_ROWS_CUH_
#define ANGEL_PTM_KERNELS_CUDA_ATTENTION_ROWS_CUH_

#include "kernels/cuda/elements.cuh"

namespace angel_ptm::cuda {

inline constexpr int kTileWarps = 8, kTileThreads = kTileWarps * kWarpLanes;
inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;
// Finite, so that a query with no visible key yet gives exp(-inf), not NaN.
inline constexpr float kNoMaximum = -1e30f;

// A head dimension padded with zeros; WithHeadDim calls fn with the one for d. Host only.
template <int kD>
struct HeadDim {
  static constexpr int kPadded = kD;
};
template <typename Fn>
void WithHeadDim(std::int64_t d, const Fn& fn) {
  if (d <= 64) return fn(HeadDim<64>());
  if (d <= 96) return fn(HeadDim<96>());
  fn(HeadDim<128>());
}

// The keys of its row that a query sees. Causal: those of its document up to itself. Full: the first keys of the row,
// as many as key_counts says.
struct Sight {
  // segment_start is null if full, key_counts if causal or if all keys are seen.
  const std::int32_t *segment_start, *key_counts;
  std::int64_t s, keys;  // per row

  APTM_DEVICE bool IsCausal() const { return segment_start != nullptr; }
  APTM_DEVICE int First(std::int64_t row, int query) const { return IsCausal() ? segment_start[row * s + query] : 0; }
  APTM_DEVICE int Last(std::int64_t row, int query) const {
    if (IsCausal()) return query;
    return (key_counts == nullptr ? static_cast<int>(keys) : key_counts[row]) - 1;
  }
};
// From the arguments of the op or of its gradient. Host only.
template <typename Args>
Sight SightOf(const Args& args) {
  if (args.keys == 0) return {args.segment_start, nullptr, args.s, args.s};
  return {nullptr, args.key_counts, args.s, args.keys};
}

// Elements of a row of kD in shared memory: 16 bytes more, so that eight rows at the same column lie in different
// banks.
template <typename T, int kD>
inline constexpr int kRowPitch = kD + kChunkOf<T>;

// to[kRows][kRowPitch] = `rows` rows of d elements, zero elsewhere. Not unrolled: the common part of all its addresses
// would be kept in registers during the caller's loop. S has the bits of T.
template <int kRows, int kD, bool kCopies, typename S, typename T>
APTM_DEVICE void LoadRows(S* to, const T* from, std::int64_t stride, int rows, int d) {
  static_assert(sizeof(S) == sizeof(T));
  constexpr int kChunk = kChunkOf<T>, kRowChunks = kD / kChunk;
  APTM_UNROLL_BY(1) for (int i = threadIdx.x; i < kRows * kRowChunks; i += kTileThreads) {
    const int r = i / kRowChunks, c = i % kRowChunks * kChunk;
    S* const at = to + r * kRowPitch<T, kD> + c;
    const bool reads = r < rows && c < d;
    const T* const source = reads ? from + r * stride + c : from;
    if constexpr (kCopies) {
      ptx::CopyAsync16(ptx::SharedAddress(at), source, reads);
    } else {
      for (int j = 0; j < kChunk; ++j) at[j] = reads ? ptx::BitCast<S>(source[j]) : S{};
    }
  }
}

// Whether v or dv, which are columns of a wider matrix, can be moved 16 bytes at a time. Host only.
template <typename T>
bool RowsAreAligned(const T* data, std::int64_t stride) {
  return stride % kChunkOf<T> == 0 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}
template <int kRows, int kD, typename S, typename T>
APTM_DEVICE void LoadValues(S* to, const T* from, std::int64_t stride, int rows, int d, bool is_aligned) {
  if (is_aligned) return LoadRows<kRows, kD, true>(to, from, stride, rows, d);
  LoadRows<kRows, kD, false>(to, from, stride, rows, d);
}

// Where a warp's kRows rows begin among those of its block.
template <int kRows>
APTM_DEVICE int WarpRow() {
  return static_cast<int>(threadIdx.x) / kWarpLanes * kRows;
}

// A block's queries of a row and a head, from `block_first` on, and those of one of its warps, from `first` on. The
// keys that some query of the block sees are in [block_first_key, block_last_key], those that some query of the warp
// sees in [first_key, last_key]; every query of the warp sees all keys of [last_start, first_end]. Queries after the
// row's end are treated as its last query.
struct WarpQueries {
  std::int64_t row, head, kv_head;  // row: of tokens
  int block_first, first, block_first_key, block_last_key, first_key, last_key, last_start, first_end;
};

// `query`, or the row's last query if `query` is after the row's end.
template <typename Problem>
APTM_DEVICE int WithinRow(const Problem& p, int query) {
  const int s = static_cast<int>(p.s);
  return query < s ? query : s - 1;
}

// For a grid of (row, head) by tiles of queries, the last tile first: with causal attention it sees the most keys.
// kRows: rows of a warp.
template <int kRows, typename Problem>
APTM_DEVICE void FindQueries(WarpQueries& queries, const Problem& p) {
  constexpr int kBlockRows = kTileWarps * kRows;
  queries.row = blockIdx.x / p.q_heads;
  queries.head = blockIdx.x % p.q_heads;
  queries.kv_head = queries.head / (p.q_heads / p.kv_heads);
  queries.block_first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kBlockRows;
  queries.first = queries.block_first + WarpRow<kRows>();
  const int first = WithinRow(p, queries.first), last = WithinRow(p, queries.first + kRows - 1);
  queries.block_first_key = p.sight.First(queries.row, queries.block_first);
  queries.block_last_key = p.sight.Last(queries.row, WithinRow(p, queries.block_first + kBlockRows - 1));
  queries.first_key = p.sight.First(queries.row, first);
  queries.last_key = queries.first < p.s ? p.sight.Last(queries.row, last) : -1;
  queries.last_start = p.sight.First(queries.row, last);
  queries.first_end = p.sight.Last(queries.row, first);
}

// The arguments of a forward launch.
template <typename T>
struct AttentionProblem {
  T* o;
  float* lse;
  const T *q, *k, *v;
  Sight sight;
  std::int64_t b, s, q_heads, kv_heads, v_stride;
  int d;
  float scale;  // times log2 e, because exponentials are powers of two
  bool copies_v;
};
template <typename T, typename Args>
AttentionProblem<T> ProblemOf(const Args& args) {
  return {.o = args.o.template as<T>(),
          .lse = args.lse.template as<float>(),
          .q = args.q.template as<T>(),
          .k = args.k.template as<T>(),
          .v = args.v.template as<T>(),
          .sight = SightOf(args),
          .b = args.b,
          .s = args.s,
          .q_heads = args.q_heads,
          .kv_heads = args.kv_heads,
          .v_stride = args.v_stride,
          .d = static_cast<int>(args.d),
          .scale = args.scale * kLog2E,
          .copies_v = RowsAreAligned(args.v.template as<T>(), args.v_stride)};
}

// A warp's queries, of which a lane handles kOwn.
template <int kOwn>
struct LaneQueries : WarpQueries {
  int start[kOwn], end[kOwn];  // the keys they see
};

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ATTENTION_ROWS_CUH_
