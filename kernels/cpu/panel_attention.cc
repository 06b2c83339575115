// Forward attention as in attention.cc (Dao 2023, FlashAttention-2, algorithm 1), on tile registers. The keys and
// values of a head are packed once for all its queries; scores become packed weights in one pass.
#include "kernels/cpu/attention_panels.h"

#if defined(__AMX_BF16__)

#include <cmath>
#include <limits>

#include "kernels/cpu/tile_stream.h"

namespace angel_ptm {
namespace {

constexpr float kUnseen = -std::numeric_limits<float>::infinity();
constexpr float kNoMaximum = -1e30f;  // finite, so that a query with no visible key yet gives 2^-inf, not NaN

struct Scratch {
  HeadPanels head;
  uint32_t *k, *v;  // rows of keys over d, and rows of d over keys, tile after tile of keys
  uint32_t *q, *p;  // columns of queries over d, and over the keys of a tile
  float *scores, *o, *maximum_L, *sum_L, *factor_L;  // o: [panel of d][query half][32][32]

  Scratch(float* base, int64_t keys, int64_t d) : head(d) {
    const int64_t tiles = (keys + kAttentionTile - 1) / kAttentionTile;
    k = reinterpret_cast<uint32_t*>(base);
    v = k + tiles * k_words();
    q = v + tiles * v_words();
    p = q + k_words();
    scores = reinterpret_cast<float*>(p + 2 * kTilePanelWords);
    o = scores + 4 * kSumSquare;
    maximum_L = o + 2 * head.across * kSumSquare;
    sum_L = maximum_L + kAttentionTile;
    factor_L = sum_L + kAttentionTile;
  }
  int64_t k_words() const { return 2 * head.along; }  // of one tile of keys
  int64_t v_words() const { return head.across * kTilePanelWords; }
};

// Keys that no query sees are not packed: they may not be finite.
void PackKeysAndValues(const AttentionArgs& args, int64_t b, int64_t kv_head, const Scratch& x) {
  const int64_t seen = args.keys > 0 ? KeysSeenInRow(args, b) : args.s, d = args.d, k_row = args.kv_heads * d;
  for (int64_t key = 0; key < seen; key += kAttentionTile) {
    const int64_t n = std::min(kAttentionTile, seen - key), token = b * KeysPerRow(args) + key;
    PackTileRows(x.k + key / kAttentionTile * x.k_words(),
                 {args.k.as<BFloat16>() + token * k_row + kv_head * d, k_row, 1}, n, d);
    PackTokensOfRows(x.v + key / kAttentionTile * x.v_words(),
                     args.v.as<BFloat16>() + token * args.v_stride + kv_head * d, args.v_stride, n, x.head);
  }
}

float* ScoreRow(const Scratch& x, int64_t row, int64_t lane) {
  return x.scores + (row / kPanelLines * 2 + lane / kPanelLines) * kSumSquare + row % kPanelLines * kPanelLines +
         lane % kPanelLines;
}

// The number of leading keys of a tile after which lanes [lane, lane + kLaneStep) see none, rounded up to a whole
// number of pairs.
int64_t RowsSeen(const VisibleKeys& seen, int64_t lane, int64_t key) {
  const int64_t last = *std::max_element(seen.last_L + lane, seen.last_L + lane + kLaneStep);
  return (std::clamp<int64_t>(last + 1 - key, 0, kAttentionTile) + 1) & -2;
}

// Scores become weights 2^(scaled score - maximum), packed into p, with the new running maximum; factor_L is the factor
// by which the old sums must be scaled. Returns whether some factor is not 1. A lane's bits do not depend on whether
// other lanes have masked pairs.
template <bool kMasked>
bool Weigh(const Scratch& x, const VisibleKeys& seen, int64_t key, float scale) {
  const __m512 scales = _mm512_set1_ps(scale * kLog2E), unseen = _mm512_set1_ps(kUnseen);
  __mmask16 changed = 0;
  for (int64_t lane = 0; lane < kAttentionTile; lane += kLaneStep) {
    const int64_t rows = kMasked ? RowsSeen(seen, lane, key) : kAttentionTile;
    const __m512 before = _mm512_loadu_ps(x.maximum_L + lane);
    __m512 maximum = before;
    for (int64_t row = 0; row < rows; ++row) {
      __m512 score = _mm512_loadu_ps(ScoreRow(x, row, lane)) * scales;
      if constexpr (kMasked) score = _mm512_mask_mov_ps(unseen, LanesSeeing(seen, lane, key + row), score);
      maximum = _mm512_maskz_max_ps(0xffff, score, maximum);  // NaNs are passed over
    }
    const __m512 factor = PowerOfTwo(before - maximum);
    changed |= _mm512_cmp_ps_mask(factor, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
    __m512 sum = _mm512_loadu_ps(x.sum_L + lane) * factor;
    uint32_t* const p = x.p + lane / kPanelLines * kTilePanelWords;
    const auto weight = [&](int64_t row) __attribute__((always_inline)) {
      __m512 w = PowerOfTwo(_mm512_fmsub_ps(_mm512_loadu_ps(ScoreRow(x, row, lane)), scales, maximum));
      if constexpr (kMasked) w = _mm512_maskz_mov_ps(LanesSeeing(seen, lane, key + row), w);
      sum += w;
      return w;
    };
    for (int64_t row = 0; row < rows; row += 2) {
      const __m512 even = weight(row), odd = weight(row + 1);
      StoreInterleaved(p + ColumnWords(lane % kPanelLines, row / 2), even, odd);
    }
    for (int64_t row = rows; row < kAttentionTile; row += 2) {
      std::fill_n(p + ColumnWords(lane % kPanelLines, row / 2), kLaneStep, 0u);
    }
    _mm512_storeu_ps(x.maximum_L + lane, maximum);
    _mm512_storeu_ps(x.sum_L + lane, sum);
    _mm512_storeu_ps(x.factor_L + lane, factor);
  }
  return changed != 0;
}

// o[D,L] *= factor.
void Rescale(const Scratch& x) {
  for (int64_t i = 0; i < 2 * x.head.across; ++i) {
    const float* const factor = x.factor_L + i % 2 * kPanelLines;
    Vector f0, f1, y;
    LoadVector(f0, factor);
    LoadVector(f1, factor + kVectorLanes);
    float* o = x.o + i * kSumSquare;
    for (int64_t row = 0; row < kPanelLines; ++row, o += kPanelLines) {
      LoadVector(y, o);
      StoreVector(o, y * f0);
      LoadVector(y, o + kVectorLanes);
      StoreVector(o + kVectorLanes, y * f1);
    }
  }
}

// o += v^T p for the tile of keys; with `exactly`, over the visible pairs alone, whatever the values are.
void AddValues(const Scratch& x, const VisibleKeys& seen, int64_t key, bool exactly, TileStream& stream) {
  const uint32_t* const v = x.v + key / kAttentionTile * x.v_words();
  for (int64_t i = 0; i < x.head.across; ++i) {
    for (int64_t half = 0; half < 2; ++half) {
      float* const o = x.o + (i * 2 + half) * kSumSquare;
      const uint32_t *const rows = v + i * kTilePanelWords, *const columns = x.p + half * kTilePanelWords;
      if (exactly) {
        MultiplySeen<false>(o, rows, columns, kAttentionTile,
                            [&](int64_t lane) { return seen.KeysOfLane(half * kPanelLines + lane, key); });
      } else {
        stream.Multiply(o, o, rows, columns, kAttentionTile, x.head.Lines(i));
      }
    }
  }
}

// Computes the softmax sums of the tile's queries over all keys, into scratch; returns whether o is finite. If it is
// not, a value may have reached queries that do not see it, which `exactly` prevents.
bool SumOverKeys(const AttentionArgs& args, const VisibleKeys& seen, const Scratch& x, bool exactly) {
  const int64_t o_elements = 2 * x.head.across * kSumSquare;
  std::fill_n(x.o, o_elements, 0.0f);
  std::fill_n(x.maximum_L, kAttentionTile, kNoMaximum);
  std::fill_n(x.sum_L, kAttentionTile, 0.0f);
  TileStream stream;
  for (int64_t key = seen.begin / kAttentionTile * kAttentionTile; key < seen.end; key += kAttentionTile) {
    const uint32_t* const k = x.k + key / kAttentionTile * x.k_words();
    for (int64_t i = 0; i < 4; ++i) {
      stream.Multiply(x.scores + i * kSumSquare, nullptr, k + i / 2 * x.head.along, x.q + i % 2 * x.head.along, args.d,
                      kPanelLines);
    }
    stream.Store();
    const bool masked = !seen.AllSee(key);
    if (masked ? Weigh<true>(x, seen, key, args.scale) : Weigh<false>(x, seen, key, args.scale)) Rescale(x);
    AddValues(x, seen, key, masked && exactly, stream);
  }
  stream.Store();
  // Any sum with a NaN or an infinity is not finite. (A sum of finite numbers that overflows costs time, not the
  // result.)
  Vector total = {}, y;
  for (int64_t i = 0; i < o_elements; i += kVectorLanes) {
    LoadVector(y, x.o + i);
    total += y;
  }
  float sum = 0;
  for (int lane = 0; lane < kVectorLanes; ++lane) sum += total[lane];
  return std::isfinite(sum);
}

void AttendTile(const AttentionArgs& args, int64_t b, int64_t head, int64_t first_query, const Scratch& x) {
  const int64_t s = args.s, d = args.d, q_row = args.q_heads * d, n = std::min(kAttentionTile, s - first_query);
  const int64_t q_at = (b * s + first_query) * q_row + head * d;
  const VisibleKeys seen(args, b, first_query);
  PackTileColumns(x.q, {args.q.as<BFloat16>() + q_at, q_row, 1}, n, d);
  if (!SumOverKeys(args, seen, x, /*exactly=*/false)) SumOverKeys(args, seen, x, /*exactly=*/true);
  float* const lse_L = args.lse.as<float>() + (head * args.b + b) * s + first_query;
  for (int64_t i = 0; i < n; ++i) lse_L[i] = x.maximum_L[i] * kLn2 + std::log(x.sum_L[i]);
  for (int64_t i = 0; i < kAttentionTile; ++i) x.factor_L[i] = 1.0f / x.sum_L[i];
  for (int64_t i = 0; i < x.head.across; ++i) {
    for (int64_t first = 0; first < n; first += kPanelLines) {
      StoreTransposed(args.o.as<BFloat16>() + q_at + first * q_row + i * kPanelLines, q_row,
                      x.o + (i * 2 + first / kPanelLines) * kSumSquare, x.factor_L + first,
                      std::min(kPanelLines, n - first), x.head.Lines(i));
    }
  }
}

}  // namespace

int64_t PanelAttentionScratch(int64_t keys, int64_t d) {
  const HeadPanels head(d);
  const int64_t tiles = (keys + kAttentionTile - 1) / kAttentionTile;
  return tiles * (2 * head.along + head.across * kTilePanelWords) + 2 * head.along + 2 * kTilePanelWords +
         (4 + 2 * head.across) * kSumSquare + 3 * kAttentionTile;
}

void PanelAttention(const AttentionArgs& args, int64_t begin, int64_t end, float* scratch) {
  const Scratch x(scratch, KeysPerRow(args), args.d);
  const TileRegisters registers;
  const int64_t tiles = (args.s + kAttentionTile - 1) / kAttentionTile, group = args.q_heads / args.kv_heads;
  int64_t packed = -1;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t b = i / (args.q_heads * tiles), head = i / tiles % args.q_heads;
    if (packed != i / (tiles * group)) PackKeysAndValues(args, b, head / group, x);
    packed = i / (tiles * group);
    AttendTile(args, b, head, i % tiles * kAttentionTile, x);
  }
}

}  // namespace angel_ptm

#endif
