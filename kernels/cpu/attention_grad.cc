// Backward attention (Dao 2023, FlashAttention-2, algorithm 2): probabilities are recomputed per tile from lse. One
// thread computes a whole (row, key-value head) in a fixed order (query heads, key tiles, query tiles), so the bits do
// not depend on the number of threads. The bf16 operands of a head are widened first; gradients are summed in fp32 and
// rounded at the end. Probabilities and gradients of scores are rounded to bf16 before they are multiplied with other
// operands.
#include <cmath>

#include "kernels/cpu/attention_panels.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/ops/attention.h"

namespace angel_ptm {
namespace {

constexpr int64_t Padded(int64_t s) { return (s + kAttentionTile - 1) / kAttentionTile * kAttentionTile; }

// fp32 copies of one query head and its key-value head, each [S,D].
struct Fp32Copies {
  float *q_SD, *k_SD, *v_SD, *o_SD, *do_SD, *dq_SD, *dk_SD, *dv_SD;

  Fp32Copies(float* base, int64_t s, int64_t d) {
    for (float** copy : {&q_SD, &k_SD, &v_SD, &o_SD, &do_SD, &dq_SD, &dk_SD, &dv_SD}) {
      *copy = base;
      base += Padded(s) * d;
    }
  }
};

// One query head in one row: operands at (row, head), and the distances between their tokens.
struct Head {
  const AttentionGradArgs& of;
  int64_t in_row, s, keys, d, q_row, k_row, v_row, dv_row;  // keys: in the row
  const float *q, *k, *v, *o, *do_, *lse_S;
  float *dq, *dk, *dv;
  float scale, query_scale;  // fp32: the queries are scaled; bf16: their scores are

  // For bf16 operands: uses fp32 copies of them and fp32 sums of the gradients, as rows of d.
  Head(const AttentionGradArgs& args, int64_t b, int64_t head, const Fp32Copies& copies)
      : of(args), in_row(b), s(args.s), keys(KeysPerRow(args)), d(args.d) {
    q_row = k_row = v_row = dv_row = d;
    q = copies.q_SD;
    k = copies.k_SD;
    v = copies.v_SD;
    o = copies.o_SD;
    do_ = copies.do_SD;
    dq = copies.dq_SD;
    dk = copies.dk_SD;
    dv = copies.dv_SD;
    lse_S = args.lse.as<float>() + (head * args.b + b) * s;
    scale = args.scale;
    query_scale = 1.0f;
  }
  Head(const AttentionGradArgs& args, int64_t b, int64_t kv_head, int64_t head)
      : of(args), in_row(b), s(args.s), keys(KeysPerRow(args)), d(args.d) {
    q_row = args.q_heads * d;
    k_row = args.kv_heads * d;
    v_row = args.v_stride;
    dv_row = args.dv_stride;
    const int64_t q_at = b * s * q_row + head * d, k_at = b * keys * k_row + kv_head * d;
    q = args.q.as<float>() + q_at;
    o = args.o.as<float>() + q_at;
    do_ = args.do_.as<float>() + q_at;
    dq = args.dq.as<float>() + q_at;
    k = args.k.as<float>() + k_at;
    dk = args.dk.as<float>() + k_at;
    v = args.v.as<float>() + b * keys * v_row + kv_head * d;
    dv = args.dv.as<float>() + b * keys * dv_row + kv_head * d;
    lse_S = args.lse.as<float>() + (head * args.b + b) * s;
    scale = query_scale = args.scale;
  }
};

struct Scratch {
  float *q_SDL, *do_SDL, *delta_S, *p_KL, *ds_KL;  // q_SDL, do_SDL: tile after tile of [D,L]

  Scratch(float* base, int64_t s, int64_t d) : q_SDL(base) {
    const int64_t padded = Padded(s);
    do_SDL = q_SDL + padded * d;
    delta_S = do_SDL + padded * d;
    p_KL = delta_S + padded;
    ds_KL = p_KL + kAttentionTile * kAttentionTile;
  }
  // End of the scratch; with bf16 operands, where the fp32 copies begin.
  float* end() const { return ds_KL + kAttentionTile * kAttentionTile; }
};

void ZeroRows(float* to, int64_t row, int64_t rows, int64_t d) {
  for (int64_t i = 0; i < rows; ++i) std::fill(to + i * row, to + i * row + d, 0.0f);
}

// Computes the transposed scaled queries and output gradients, and delta = rowsum(do * o).
void Prepare(const Head& h, const Scratch& scratch) {
  const int64_t d = h.d;
  for (int64_t i = 0; i < h.s; i += kAttentionTile) {
    const int64_t n = std::min(kAttentionTile, h.s - i);
    TransposeIntoLanes(scratch.q_SDL + i * d, h.q + i * h.q_row, h.q_row, n, d, h.query_scale);
    TransposeIntoLanes(scratch.do_SDL + i * d, h.do_ + i * h.q_row, h.q_row, n, d, 1.0f);
  }
  for (int64_t i = 0; i < h.s; ++i) {
    scratch.delta_S[i] = SumOfProducts(d, h.o + i * h.q_row, h.do_ + i * h.q_row);
  }
}

// p = exp(scaled score - lse), ds = p (dp - delta) scale, both zero where a query does not see a key. On entry
// scratch.p_KL holds the scores and scratch.ds_KL holds dp = v do^T. Returns whether those zeros silence the masked
// pairs, that is, whether all operands are finite: non-finite q (through o) and do of a query show in delta, non-finite
// k and v of a key in their products with any query. kRound: p and ds are rounded to bf16.
template <bool kMasked, bool kRound>
bool ScoreGrad(const Head& h, const QueryTile& queries, const KeyTile& keys, const Scratch& scratch) {
  alignas(64) float lse_L[kAttentionTile] = {}, delta_L[kAttentionTile] = {};
  std::copy_n(h.lse_S + queries.begin, queries.n, lse_L);
  std::copy_n(scratch.delta_S + queries.begin, queries.n, delta_L);
  const int32_t first_query = static_cast<int32_t>(queries.begin);
  float operands = kMasked ? SumOfProducts(kAttentionTile, delta_L) : 0.0f;
  for (int64_t row = 0; row < keys.n; ++row) {
    const int32_t key = static_cast<int32_t>(keys.begin + row);
    float* __restrict p_L = scratch.p_KL + row * kAttentionTile;
    float* __restrict ds_L = scratch.ds_KL + row * kAttentionTile;
    const Interval lanes = queries.LanesSeeing(keys, row & -keys.step);
    if (kMasked && lanes.size() > 0) operands += p_L[lanes.begin] + ds_L[lanes.begin];
    for (int64_t first = lanes.begin; first < lanes.end; first += kLaneStep) {
      for (int64_t i = first; i < first + kLaneStep; ++i) {
        float p = Exp((kRound ? p_L[i] * h.scale : p_L[i]) - lse_L[i]);
        if constexpr (kMasked) {
          const bool seen = (key <= first_query + static_cast<int32_t>(i)) & (key >= queries.segment_start[i]);
          p = seen ? p : 0.0f;
        }
        const float ds = p * (ds_L[i] - delta_L[i]) * h.scale;
        p_L[i] = kRound ? RoundedToBf16(p) : p;
        ds_L[i] = kRound ? RoundedToBf16(ds) : ds;
      }
    }
  }
  return std::isfinite(operands);
}

// Computes scores and dp of keys [row, row + rows) and the queries that see some of them.
void MultiplyScores(const Head& h, const QueryTile& queries, const KeyTile& keys, int64_t row, const Scratch& scratch) {
  const Interval lanes = queries.LanesSeeing(keys, row);
  const int64_t at = row * kAttentionTile + lanes.begin, tile = queries.begin * h.d + lanes.begin;
  TileProduct p = {.m = keys.Rows(row), .n = lanes.size(), .k = h.d, .ldb = kAttentionTile, .ldc = kAttentionTile};
  p.a = h.k + (keys.begin + row) * h.k_row;
  p.a_row = h.k_row;
  p.b = scratch.q_SDL + tile;
  p.c = scratch.p_KL + at;
  MultiplyTiles(p);
  p.a = h.v + (keys.begin + row) * h.v_row;
  p.a_row = h.v_row;
  p.b = scratch.do_SDL + tile;
  p.c = scratch.ds_KL + at;
  MultiplyTiles(p);
}

// dv += p do  and  dk += ds q  for the same keys and queries.
void AddKeyGrads(const Head& h, const QueryTile& queries, const KeyTile& keys, int64_t row, const Scratch& scratch) {
  const Interval lanes = queries.LanesSeeing(keys, row);
  const int64_t at = row * kAttentionTile + lanes.begin, query = (queries.begin + lanes.begin) * h.q_row;
  TileProduct p = {.m = keys.Rows(row),
                   .n = h.d,
                   .k = std::min(lanes.end, queries.n) - lanes.begin,
                   .a_row = kAttentionTile,
                   .ldb = h.q_row};
  p.accumulate = true;
  p.a = scratch.p_KL + at;
  p.b = h.do_ + query;
  p.c = h.dv + (keys.begin + row) * h.dv_row;
  p.ldc = h.dv_row;
  MultiplyTiles(p);
  p.a = scratch.ds_KL + at;
  p.b = h.q + query;
  p.c = h.dk + (keys.begin + row) * h.k_row;
  p.ldc = h.k_row;
  MultiplyTiles(p);
}

// dq += ds k for queries [lane, lane + n).
void AddQueryGrads(const Head& h, const QueryTile& queries, const KeyTile& keys, int64_t lane, int64_t n,
                   const Scratch& scratch) {
  const Interval rows = queries.KeysSeen(keys, lane);
  MultiplyTiles({.m = n,
                 .n = h.d,
                 .k = rows.size(),
                 .a = scratch.ds_KL + rows.begin * kAttentionTile + lane,
                 .a_row = 1,
                 .a_k = kAttentionTile,
                 .b = h.k + (keys.begin + rows.begin) * h.k_row,
                 .ldb = h.k_row,
                 .c = h.dq + (queries.begin + lane) * h.q_row,
                 .ldc = h.q_row,
                 .accumulate = true});
}

template <bool kRound>
void TileGrad(const Head& h, const QueryTile& queries, const KeyTile& keys, const Scratch& scratch) {
  for (int64_t row = 0; row < keys.n; row += keys.step) MultiplyScores(h, queries, keys, row, scratch);
  const bool silent = keys.masked ? ScoreGrad<true, kRound>(h, queries, keys, scratch)
                                  : ScoreGrad<false, kRound>(h, queries, keys, scratch);
  const KeyTile steps = silent ? keys : keys.SinglePairs();
  for (int64_t row = 0; row < steps.n; row += steps.step) AddKeyGrads(h, queries, steps, row, scratch);
  for (int64_t lane = 0; lane < queries.n; lane += steps.step) {
    AddQueryGrads(h, queries, steps, lane, std::min(steps.step, queries.n - lane), scratch);
  }
}

// Computes dq of a query head; adds to dk and dv.
template <bool kRound>
void QueryHeadGrad(const Head& h, const Scratch& scratch) {
  ZeroRows(h.dq, h.q_row, h.s, h.d);
  Prepare(h, scratch);
  const bool causal = h.of.keys == 0;
  for (int64_t key = 0; key < h.keys; key += kAttentionTile) {
    for (int64_t query = causal ? key : 0; query < h.s; query += kAttentionTile) {
      const QueryTile queries = QueriesOf(h.of, h.in_row, query);
      if (queries.Sees(key)) TileGrad<kRound>(h, queries, KeyTile(queries, key, h.s), scratch);
    }
  }
}

void KeyValueHeadGrad(const AttentionGradArgs& args, int64_t b, int64_t kv_head, const Scratch& scratch) {
  const int64_t group = args.q_heads / args.kv_heads;
  for (int64_t i = 0; i < group; ++i) {
    const Head h(args, b, kv_head, kv_head * group + i);
    if (i == 0) {
      ZeroRows(h.dk, h.k_row, h.keys, h.d);
      ZeroRows(h.dv, h.dv_row, h.keys, h.d);
    }
    QueryHeadGrad<false>(h, scratch);
  }
}

// The number of queries or of keys of a row, whichever is larger.
int64_t RowsMax(const AttentionGradArgs& args) { return std::max(args.s, KeysPerRow(args)); }

void KeyValueHeadGradBf16(const AttentionGradArgs& args, int64_t b, int64_t kv_head, const Scratch& scratch) {
  const int64_t group = args.q_heads / args.kv_heads, s = args.s, keys = KeysPerRow(args), d = args.d;
  const int64_t q_row = args.q_heads * d, k_row = args.kv_heads * d, k_at = b * keys * k_row + kv_head * d;
  const Fp32Copies copies(scratch.end(), RowsMax(args), d);
  WidenRows(copies.k_SD, args.k.as<BFloat16>() + k_at, k_row, keys, d);
  WidenRows(copies.v_SD, args.v.as<BFloat16>() + b * keys * args.v_stride + kv_head * d, args.v_stride, keys, d);
  ZeroRows(copies.dk_SD, d, keys, d);
  ZeroRows(copies.dv_SD, d, keys, d);
  for (int64_t i = 0; i < group; ++i) {
    const int64_t head = kv_head * group + i, q_at = b * s * q_row + head * d;
    WidenRows(copies.q_SD, args.q.as<BFloat16>() + q_at, q_row, s, d);
    WidenRows(copies.o_SD, args.o.as<BFloat16>() + q_at, q_row, s, d);
    WidenRows(copies.do_SD, args.do_.as<BFloat16>() + q_at, q_row, s, d);
    QueryHeadGrad<true>(Head(args, b, head, copies), scratch);
    RoundRows(args.dq.as<BFloat16>() + q_at, q_row, copies.dq_SD, s, d);
  }
  RoundRows(args.dk.as<BFloat16>() + k_at, k_row, copies.dk_SD, keys, d);
  RoundRows(args.dv.as<BFloat16>() + b * keys * args.dv_stride + kv_head * d, args.dv_stride, copies.dv_SD, keys, d);
}

bool IsBf16(const AttentionGradArgs& args) { return args.q.dtype == DType::kBFloat16; }

// Scratch of one thread in fp32 elements.
int64_t ThreadScratch(const AttentionGradArgs& args) {
  if constexpr (kAttentionInPanels) {
    if (IsBf16(args)) return PanelAttentionGradScratch(args.s, KeysPerRow(args), args.d);
  }
  return AttentionGradScratch(RowsMax(args), args.d, IsBf16(args));
}

// Workspace: ThreadScratch per thread.
void Run(const AttentionGradArgs& args, const KernelContext& ctx) {
  float* workspace = reinterpret_cast<float*>(ctx.workspace);
  ParallelRanges(ctx.threads, args.b * args.kv_heads, 1, [&](int64_t begin, int64_t end, int part) {
    float* const base = workspace + part * ThreadScratch(args);
    if constexpr (kAttentionInPanels) {
      if (IsBf16(args)) return PanelAttentionGrad(args, begin, end, base);
    }
    const Scratch scratch(base, RowsMax(args), args.d);
    const auto head_grad = IsBf16(args) ? &KeyValueHeadGradBf16 : &KeyValueHeadGrad;
    for (int64_t i = begin; i < end; ++i) head_grad(args, i / args.kv_heads, i % args.kv_heads, scratch);
  });
}

int64_t WorkspaceBytes(const AttentionGradArgs& args, const BackendOptions& options) {
  return FloatBytes(std::min<int64_t>(options.threads, args.b * args.kv_heads) * ThreadScratch(args));
}

absl::Status CanRun(const AttentionGradArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("attention_grad", {.same = {{"q", args.q},
                                                         {"k", args.k},
                                                         {"v", args.v},
                                                         {"o", args.o},
                                                         {"do", args.do_},
                                                         {"dq", args.dq},
                                                         {"dk", args.dk},
                                                         {"dv", args.dv}},
                                                .fp32 = {{"lse", args.lse}}}));
  RETURN_IF_ERROR(BelowInt32("attention_grad", {args.b, args.s, KeysPerRow(args)}));
  return HeadsSupported("attention_grad", args.q_heads, args.kv_heads, args.d, kAttentionDimMax);
}

}  // namespace

Kernel<AttentionGradArgs> CpuAttentionGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
