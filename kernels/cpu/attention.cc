// Forward attention with an online softmax (Dao 2023, FlashAttention-2, algorithm 1): one tile of queries meets one
// tile of keys at a time. Tiles are independent of each other, so the bits do not depend on the number of threads.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr float kNoMaximum = -1e30f;  // finite, so that a query without a visible key so far makes exp(-inf), not NaN

struct Scratch {
  float *q_DL, *o_DL, *p_KL, *maximum_L, *sum_L, *factor_L;

  Scratch(float* base, int64_t d) : q_DL(base), o_DL(q_DL + d * kAttentionTile), p_KL(o_DL + d * kAttentionTile) {
    maximum_L = p_KL + kAttentionTile * kAttentionTile;
    sum_L = maximum_L + kAttentionTile;
    factor_L = sum_L + kAttentionTile;
  }
};

// One tile of keys as a query tile sees it. In a diagonal tile row k is computed for lanes >= k / kLaneStep * kLaneStep
// only; what is left of them is masked anyway and never read.
struct KeyTile {
  int64_t begin = 0, n = 0;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t k_row = 0, v_row = 0;
  bool diagonal = false, masked = false;

  int64_t FirstLane(int64_t row) const { return diagonal ? row / kLaneStep * kLaneStep : 0; }
};

// p[keys,L] = scaled scores, with -inf where a query does not see a key.
void Score(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys, int64_t d) {
  const int64_t step = keys.diagonal ? kLaneStep : keys.n;
  for (int64_t row = 0; row < keys.n; row += step) {
    const int64_t lane = keys.FirstLane(row);
    MultiplyTiles({.m = std::min(step, keys.n - row),
                   .n = queries.lanes - lane,
                   .k = d,
                   .a = keys.k + row * keys.k_row,
                   .a_row = keys.k_row,
                   .b = scratch.q_DL + lane,
                   .ldb = kAttentionTile,
                   .c = scratch.p_KL + row * kAttentionTile + lane,
                   .ldc = kAttentionTile});
  }
  if (!keys.masked) return;
  for (int64_t row = 0; row < keys.n; ++row) {
    const int32_t key = static_cast<int32_t>(keys.begin + row), first_query = static_cast<int32_t>(queries.begin);
    float* __restrict p_L = scratch.p_KL + row * kAttentionTile;
    for (int64_t first = keys.FirstLane(row); first < queries.lanes; first += kLaneStep) {
      for (int64_t i = first; i < first + kLaneStep; ++i) {
        const bool seen = (key <= first_query + static_cast<int32_t>(i)) & (key >= queries.segment_start[i]);
        p_L[i] = seen ? p_L[i] : kMasked;
      }
    }
  }
}

// Scores become exp(score - maximum) with the new running maximum; factor_L is what the old sums must be scaled by.
void UpdateSoftmax(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys) {
  for (int64_t first = 0; first < queries.lanes; first += kLaneStep) {
    const int64_t rows = keys.diagonal ? std::min(keys.n, first + kLaneStep) : keys.n;
    float maximum[kLaneStep], sum[kLaneStep];
    for (int i = 0; i < kLaneStep; ++i) maximum[i] = scratch.maximum_L[first + i];
    for (int64_t row = 0; row < rows; ++row) {
      const float* __restrict p_L = scratch.p_KL + row * kAttentionTile + first;
      for (int i = 0; i < kLaneStep; ++i) maximum[i] = p_L[i] > maximum[i] ? p_L[i] : maximum[i];
    }
    for (int i = 0; i < kLaneStep; ++i) {
      const float factor = Exp(scratch.maximum_L[first + i] - maximum[i]);
      scratch.factor_L[first + i] = factor;
      scratch.maximum_L[first + i] = maximum[i];
      sum[i] = scratch.sum_L[first + i] * factor;
    }
    for (int64_t row = 0; row < rows; ++row) {
      float* __restrict p_L = scratch.p_KL + row * kAttentionTile + first;
      for (int i = 0; i < kLaneStep; ++i) {
        p_L[i] = Exp(p_L[i] - maximum[i]);
        sum[i] += p_L[i];
      }
    }
    for (int i = 0; i < kLaneStep; ++i) scratch.sum_L[first + i] = sum[i];
  }
}

// o[D,L] = o * factor + v^T p.
void AddValues(const Scratch& scratch, const QueryTile& queries, const KeyTile& keys, int64_t d, bool first_tile) {
  if (!first_tile) {
    for (int64_t i = 0; i < d; ++i) {
      float* __restrict o_L = scratch.o_DL + i * kAttentionTile;
      for (int64_t lane = 0; lane < queries.lanes; ++lane) o_L[lane] *= scratch.factor_L[lane];
    }
  }
  const int64_t step = keys.diagonal ? kLaneStep : keys.n;
  for (int64_t row = 0; row < keys.n; row += step) {
    const int64_t lane = keys.FirstLane(row);
    MultiplyTiles({.m = d,
                   .n = queries.lanes - lane,
                   .k = std::min(step, keys.n - row),
                   .a = keys.v + row * keys.v_row,
                   .a_row = 1,
                   .a_k = keys.v_row,
                   .b = scratch.p_KL + row * kAttentionTile + lane,
                   .ldb = kAttentionTile,
                   .c = scratch.o_DL + lane,
                   .ldc = kAttentionTile,
                   .accumulate = !first_tile || row > 0});
  }
}

void AttendTile(const AttentionArgs& args, int64_t b, int64_t head, int64_t first_query, const Scratch& scratch) {
  const int64_t s = args.s, d = args.d, q_row = args.q_heads * d, k_row = args.kv_heads * d;
  const int64_t kv_head = head / (args.q_heads / args.kv_heads);
  const QueryTile queries(args.segment_start + b * s, s, first_query);
  TransposeIntoLanes(scratch.q_DL, args.q.as<float>() + (b * s + first_query) * q_row + head * d, q_row, queries.n, d,
                     args.scale);
  std::fill(scratch.maximum_L, scratch.maximum_L + kAttentionTile, kNoMaximum);
  std::fill(scratch.sum_L, scratch.sum_L + kAttentionTile, 0.0f);
  const int64_t first_key = queries.first_start / kAttentionTile * kAttentionTile;
  for (int64_t key = first_key; queries.Sees(key); key += kAttentionTile) {
    const KeyTile keys = {.begin = key,
                          .n = std::min(kAttentionTile, s - key),
                          .k = args.k.as<float>() + (b * s + key) * k_row + kv_head * d,
                          .v = args.v.as<float>() + (b * s + key) * args.v_stride + kv_head * d,
                          .k_row = k_row,
                          .v_row = args.v_stride,
                          .diagonal = key == first_query,
                          .masked = !queries.SeesAll(key)};
    Score(scratch, queries, keys, d);
    UpdateSoftmax(scratch, queries, keys);
    AddValues(scratch, queries, keys, d, key == first_key);
  }
  float* lse_L = args.lse.as<float>() + (head * args.b + b) * s + first_query;
  for (int64_t i = 0; i < queries.n; ++i) lse_L[i] = scratch.maximum_L[i] + std::log(scratch.sum_L[i]);
  for (int64_t i = 0; i < queries.lanes; ++i) scratch.factor_L[i] = 1.0f / scratch.sum_L[i];
  TransposeFromLanes(args.o.as<float>() + (b * s + first_query) * q_row + head * d, q_row, scratch.o_DL,
                     scratch.factor_L, queries.n, d);
}

}  // namespace

// Workspace: AttentionScratch(D) fp32 per thread.
void CpuAttention(const AttentionArgs& args, const KernelContext& ctx) {
  const int64_t tiles = (args.s + kAttentionTile - 1) / kAttentionTile;
  float* workspace = reinterpret_cast<float*>(ctx.workspace);
  ParallelRanges(ctx.threads, args.b * args.q_heads * tiles, 1, [&](int64_t begin, int64_t end, int part) {
    const Scratch scratch(workspace + part * AttentionScratch(args.d), args.d);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / (args.q_heads * tiles), head = i / tiles % args.q_heads;
      AttendTile(args, b, head, i % tiles * kAttentionTile, scratch);
    }
  });
}

}  // namespace angel_ptm
