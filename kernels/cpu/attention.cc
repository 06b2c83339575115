// Forward attention with an online softmax (Dao 2023, FlashAttention-2, algorithm 1): one tile of queries at a time
// goes through the tiles of keys one by one. Tiles of queries are independent of each other, so the bits do not depend
// on the number of threads. bf16 operands are widened tile by tile, and weights are rounded to bf16 before they are
// multiplied with values.
#include "kernels/ops/attention.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/attention_panels.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr float kNoMaximum = -1e30f;  // finite, so that a query with no visible key yet gives exp(-inf), not NaN

struct Scratch {
  float *q_DL, *o_DL, *p_KL, *maximum_L, *sum_L, *factor_L;
  float *rows_LD, *k_KD, *v_KD;  // with bf16 operands only

  Scratch(float* base, int64_t d) : q_DL(base), o_DL(q_DL + d * kAttentionTile), p_KL(o_DL + d * kAttentionTile) {
    maximum_L = p_KL + kAttentionTile * kAttentionTile;
    sum_L = maximum_L + kAttentionTile;
    factor_L = sum_L + kAttentionTile;
    rows_LD = factor_L + kAttentionTile;
    k_KD = rows_LD + d * kAttentionTile;
    v_KD = k_KD + d * kAttentionTile;
  }
};

// Where a tile's keys and values lie.
struct KeyValues {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t k_row = 0, v_row = 0, d = 0;
};

// p[keys,L] = scores, -inf where a query does not see a key.
void Score(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys, const KeyValues& kv) {
  for (int64_t row = 0; row < keys.n; row += keys.step) {
    const Interval lanes = queries.LanesSeeing(keys, row);
    MultiplyTiles({.m = keys.Rows(row),
                   .n = lanes.size(),
                   .k = kv.d,
                   .a = kv.k + row * kv.k_row,
                   .a_row = kv.k_row,
                   .b = scratch.q_DL + lanes.begin,
                   .ldb = kAttentionTile,
                   .c = scratch.p_KL + row * kAttentionTile + lanes.begin,
                   .ldc = kAttentionTile});
  }
  if (!keys.masked) return;
  const int32_t first_query = static_cast<int32_t>(queries.begin);
  for (int64_t row = 0; row < keys.n; ++row) {
    const int32_t key = static_cast<int32_t>(keys.begin + row);
    const Interval lanes = queries.LanesSeeing(keys, row / kLaneStep * kLaneStep);
    float* __restrict p_L = scratch.p_KL + row * kAttentionTile;
    for (int64_t first = lanes.begin; first < lanes.end; first += kLaneStep) {
      for (int64_t i = first; i < first + kLaneStep; ++i) {
        const bool seen = (key <= first_query + static_cast<int32_t>(i)) & (key >= queries.segment_start[i]);
        p_L[i] = seen ? p_L[i] : kMasked;
      }
    }
  }
}

// Scores become exp(score - maximum) with the new running maximum; factor_L is the factor by which the old sums must be
// scaled. Scores of bf16 operands (kRound) are scaled here, whereas those of fp32 operands come from scaled queries;
// their weights are rounded to bf16 after they are summed.
template <bool kRound>
void UpdateSoftmax(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys, float scale) {
  for (int64_t first = 0; first < queries.lanes; first += kLaneStep) {
    const Interval rows = queries.KeysSeen(keys, first);
    float maximum[kLaneStep], sum[kLaneStep];
    for (int i = 0; i < kLaneStep; ++i) maximum[i] = scratch.maximum_L[first + i];
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* __restrict p_L = scratch.p_KL + row * kAttentionTile + first;
#pragma omp simd
      for (int i = 0; i < kLaneStep; ++i) {
        const float score = kRound ? p_L[i] * scale : p_L[i];
        maximum[i] = score > maximum[i] ? score : maximum[i];
      }
    }
#pragma omp simd
    for (int i = 0; i < kLaneStep; ++i) {
      const float factor = Exp(scratch.maximum_L[first + i] - maximum[i]);
      scratch.factor_L[first + i] = factor;
      scratch.maximum_L[first + i] = maximum[i];
      sum[i] = scratch.sum_L[first + i] * factor;
    }
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      float* __restrict p_L = scratch.p_KL + row * kAttentionTile + first;
#pragma omp simd
      for (int i = 0; i < kLaneStep; ++i) {
        p_L[i] = Exp((kRound ? p_L[i] * scale : p_L[i]) - maximum[i]);
        sum[i] += p_L[i];
        if constexpr (kRound) p_L[i] = RoundedToBf16(p_L[i]);
      }
    }
    for (int i = 0; i < kLaneStep; ++i) scratch.sum_L[first + i] = sum[i];
  }
}

// o[D,L] = o * factor + v^T p; with single_pairs, over the visible pairs alone.
void AddValues(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys, const KeyValues& kv,
               bool single_pairs) {
  for (int64_t i = 0; i < kv.d; ++i) {
    float* __restrict o_L = scratch.o_DL + i * kAttentionTile;
    for (int64_t first = 0; first < queries.lanes; first += kLaneStep) {
      for (int64_t lane = first; lane < first + kLaneStep; ++lane) o_L[lane] *= scratch.factor_L[lane];
    }
  }
  const KeyTile steps = keys.masked && single_pairs ? keys.SinglePairs() : keys;
  for (int64_t row = 0; row < steps.n; row += steps.step) {
    const Interval lanes = queries.LanesSeeing(steps, row);
    MultiplyTiles({.m = kv.d,
                   .n = lanes.size(),
                   .k = steps.Rows(row),
                   .a = kv.v + row * kv.v_row,
                   .a_row = 1,
                   .a_k = kv.v_row,
                   .b = scratch.p_KL + row * kAttentionTile + lanes.begin,
                   .ldb = kAttentionTile,
                   .c = scratch.o_DL + lanes.begin,
                   .ldc = kAttentionTile,
                   .accumulate = true});
  }
}

// Any sum with a NaN or an infinity is not finite. (A sum of finite numbers that overflows costs time, not the result.)
bool OutputIsFinite(const Scratch& scratch, int64_t d) {
  Vector sum[kAttentionTile / kVectorLanes] = {};
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < kAttentionTile / kVectorLanes; ++j) {
      sum[j] += *reinterpret_cast<const UnalignedVector*>(scratch.o_DL + i * kAttentionTile + j * kVectorLanes);
    }
  }
  const Vector all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float total = 0;
  for (int lane = 0; lane < kVectorLanes; ++lane) total += all[lane];
  return std::isfinite(total);
}

bool IsBf16(const AttentionArgs& args) { return args.q.dtype == DType::kBFloat16; }

// The keys [key, key + n) of row b and their values, widened into scratch if they are bf16.
KeyValues KeysAndValues(const AttentionArgs& args, int64_t b, int64_t kv_head, int64_t key, int64_t n,
                        const Scratch& scratch) {
  const int64_t d = args.d, k_row = args.kv_heads * d, token = b * KeysPerRow(args) + key;
  const int64_t k_at = token * k_row + kv_head * d, v_at = token * args.v_stride + kv_head * d;
  if (!IsBf16(args)) return {args.k.as<float>() + k_at, args.v.as<float>() + v_at, k_row, args.v_stride, d};
  WidenRows(scratch.k_KD, args.k.as<BFloat16>() + k_at, k_row, n, d);
  WidenRows(scratch.v_KD, args.v.as<BFloat16>() + v_at, args.v_stride, n, d);
  return {scratch.k_KD, scratch.v_KD, d, d, d};
}

// Computes the softmax sums of the tile's queries over all keys, into scratch; returns whether o is finite. If it is
// not, a value may have reached queries that do not see it (KeyTile::SinglePairs). Checking o is cheaper than checking
// every tile of v.
bool SumOverKeys(const AttentionArgs& args, int64_t b, int64_t kv_head, const QueryTile& queries,
                 const Scratch& scratch, bool single_pairs) {
  const int64_t s = args.s, d = args.d;
  std::fill(scratch.o_DL, scratch.o_DL + d * kAttentionTile, 0.0f);
  std::fill(scratch.maximum_L, scratch.maximum_L + kAttentionTile, kNoMaximum);
  std::fill(scratch.sum_L, scratch.sum_L + kAttentionTile, 0.0f);
  for (int64_t key = queries.FirstKeyTile(); queries.Sees(key); key += kAttentionTile) {
    const KeyTile keys(queries, key, s);
    const KeyValues kv = KeysAndValues(args, b, kv_head, key, keys.n, scratch);
    Score(scratch, queries, keys, kv);
    if (IsBf16(args)) {
      UpdateSoftmax<true>(scratch, queries, keys, args.scale);
    } else {
      UpdateSoftmax<false>(scratch, queries, keys, args.scale);
    }
    AddValues(scratch, queries, keys, kv, single_pairs);
  }
  return OutputIsFinite(scratch, d);
}

void AttendTile(const AttentionArgs& args, int64_t b, int64_t head, int64_t first_query, const Scratch& scratch) {
  const int64_t s = args.s, d = args.d, q_row = args.q_heads * d;
  const int64_t kv_head = head / (args.q_heads / args.kv_heads), q_at = (b * s + first_query) * q_row + head * d;
  const QueryTile queries = QueriesOf(args, b, first_query);
  const bool bf16 = IsBf16(args);
  if (bf16) WidenRows(scratch.rows_LD, args.q.as<BFloat16>() + q_at, q_row, queries.n, d);
  TransposeIntoLanes(scratch.q_DL, bf16 ? scratch.rows_LD : args.q.as<float>() + q_at, bf16 ? d : q_row, queries.n, d,
                     bf16 ? 1.0f : args.scale);
  if (!SumOverKeys(args, b, kv_head, queries, scratch, /*single_pairs=*/false)) {
    SumOverKeys(args, b, kv_head, queries, scratch, /*single_pairs=*/true);
  }
  float* lse_L = args.lse.as<float>() + (head * args.b + b) * s + first_query;
  for (int64_t i = 0; i < queries.n; ++i) lse_L[i] = scratch.maximum_L[i] + std::log(scratch.sum_L[i]);
  for (int64_t i = 0; i < queries.lanes; ++i) scratch.factor_L[i] = 1.0f / scratch.sum_L[i];
  TransposeFromLanes(bf16 ? scratch.rows_LD : args.o.as<float>() + q_at, bf16 ? d : q_row, scratch.o_DL,
                     scratch.factor_L, queries.n, d);
  if (bf16) RoundRows(args.o.as<BFloat16>() + q_at, q_row, scratch.rows_LD, queries.n, d);
}

// Scratch of one thread in fp32 elements.
int64_t ThreadScratch(const AttentionArgs& args) {
  if constexpr (kAttentionInPanels) {
    if (IsBf16(args)) return PanelAttentionScratch(KeysPerRow(args), args.d);
  }
  return AttentionScratch(args.d, IsBf16(args));
}

// Workspace: ThreadScratch per thread.
void Run(const AttentionArgs& args, const KernelContext& ctx) {
  const int64_t tiles = (args.s + kAttentionTile - 1) / kAttentionTile;
  float* workspace = reinterpret_cast<float*>(ctx.workspace);
  ParallelRanges(ctx.threads, args.b * args.q_heads * tiles, 1, [&](int64_t begin, int64_t end, int part) {
    float* const base = workspace + part * ThreadScratch(args);
    if constexpr (kAttentionInPanels) {
      if (IsBf16(args)) return PanelAttention(args, begin, end, base);
    }
    const Scratch scratch(base, args.d);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / (args.q_heads * tiles), head = i / tiles % args.q_heads;
      AttendTile(args, b, head, i % tiles * kAttentionTile, scratch);
    }
  });
}

int64_t WorkspaceBytes(const AttentionArgs& args, const BackendOptions& options) {
  const int64_t tasks = args.b * args.q_heads * ((args.s + kAttentionTile - 1) / kAttentionTile);
  return FloatBytes(std::min<int64_t>(options.threads, tasks) * ThreadScratch(args));
}

absl::Status CanRun(const AttentionArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("attention", {.same = {{"q", args.q}, {"k", args.k}, {"v", args.v}, {"o", args.o}},
                                           .fp32 = {{"lse", args.lse}}}));
  RETURN_IF_ERROR(BelowInt32("attention", {args.b, args.s, KeysPerRow(args)}));
  return HeadsSupported("attention", args.q_heads, args.kv_heads, args.d, kAttentionDimMax);
}

}  // namespace

Kernel<AttentionArgs> CpuAttention() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
