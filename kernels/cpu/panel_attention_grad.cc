// Backward attention as in attention_grad.cc (Dao 2023, FlashAttention-2, algorithm 2), on tile registers. Operands are
// packed once per head. Probabilities and gradients of scores are packed as they are computed, in every order that a
// product needs.
#include "kernels/cpu/attention_panels.h"

#if defined(__AMX_BF16__)

#include <cmath>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/tile_stream.h"

namespace angel_ptm {
namespace {

int64_t Tiles(int64_t n) { return (n + kAttentionTile - 1) / kAttentionTile; }

// Words kept for one tile of keys and for one tile of queries.
struct TileWords {
  int64_t rows, across, sums;  // panels of tokens over d, panels of d over tokens, sums [64,d]
  explicit TileWords(const HeadPanels& head)
      : rows(2 * head.along), across(head.across * kTilePanelWords), sums(2 * head.across * kSumSquare) {}
  int64_t of_keys() const { return 2 * rows + across + 2 * sums; }
  int64_t of_queries() const { return 2 * rows + 2 * across + sums; }
};

struct KeysOfTile {
  uint32_t *k, *v, *k_across;
  float *dk, *dv;  // [key half][panel of d][32 keys][32]
};
struct QueriesOfTile {
  uint32_t *q, *do_, *q_across, *do_across;  // columns
  float* dq;                                 // [panel of d][query half][32][32 queries]
};

class Scratch {
 public:
  Scratch(float* base, int64_t s, int64_t keys, const HeadPanels& head) : words_(head) {
    keys_ = base;
    queries_ = keys_ + Tiles(keys) * words_.of_keys();
    delta_S = queries_ + Tiles(s) * words_.of_queries();
    scores = delta_S + Tiles(s) * kAttentionTile;
    dp = scores + 4 * kSumSquare;
    p_rows = reinterpret_cast<uint32_t*>(dp + 4 * kSumSquare);
    ds_rows = p_rows + 2 * kTilePanelWords;
    ds_columns = ds_rows + 2 * kTilePanelWords;
  }
  static int64_t Words(int64_t s, int64_t keys, const HeadPanels& head) {
    const TileWords words(head);
    return Tiles(keys) * words.of_keys() + Tiles(s) * (words.of_queries() + kAttentionTile) + 8 * kSumSquare +
           6 * kTilePanelWords;
  }
  KeysOfTile Keys(int64_t tile) const {
    uint32_t* const k = reinterpret_cast<uint32_t*>(keys_ + tile * words_.of_keys());
    uint32_t *const v = k + words_.rows, *const k_across = v + words_.rows;
    float* const dk = reinterpret_cast<float*>(k_across + words_.across);
    return {k, v, k_across, dk, dk + words_.sums};
  }
  QueriesOfTile Queries(int64_t tile) const {
    uint32_t* const q = reinterpret_cast<uint32_t*>(queries_ + tile * words_.of_queries());
    uint32_t *const do_ = q + words_.rows, *const q_across = do_ + words_.rows;
    uint32_t* const do_across = q_across + words_.across;
    return {q, do_, q_across, do_across, reinterpret_cast<float*>(do_across + words_.across)};
  }
  int64_t sums() const { return words_.sums; }

  float *delta_S, *scores, *dp;
  uint32_t *p_rows, *ds_rows, *ds_columns;  // keys over queries; queries over keys

 private:
  TileWords words_;
  float *keys_, *queries_;
};

// One query head of a row.
struct Head {
  const AttentionGradArgs& args;
  int64_t b, kv_head, head;
  HeadPanels panels;
  int64_t seen;  // keys

  int64_t q_row() const { return args.q_heads * args.d; }
  int64_t k_row() const { return args.kv_heads * args.d; }
  int64_t QueryAt(int64_t query) const { return (b * args.s + query) * q_row() + head * args.d; }
  int64_t KeyAt(int64_t key) const { return (b * KeysPerRow(args) + key) * k_row() + kv_head * args.d; }
  int64_t ValueAt(int64_t key, int64_t row) const { return (b * KeysPerRow(args) + key) * row + kv_head * args.d; }
  const float* lse_S() const { return args.lse.as<float>() + (head * args.b + b) * args.s; }
};

// Keys that no query sees are not packed: they may not be finite. Sums begin at zero.
void PackKeys(const Head& h, const Scratch& x) {
  for (int64_t key = 0; key < KeysPerRow(h.args); key += kAttentionTile) {
    const KeysOfTile keys = x.Keys(key / kAttentionTile);
    std::fill_n(keys.dk, x.sums(), 0.0f);
    std::fill_n(keys.dv, x.sums(), 0.0f);
    if (key >= h.seen) continue;
    const int64_t n = std::min(kAttentionTile, h.seen - key);
    const BFloat16* const k = h.args.k.as<BFloat16>() + h.KeyAt(key);
    PackTileRows(keys.k, {k, h.k_row(), 1}, n, h.args.d);
    PackTileRows(keys.v, {h.args.v.as<BFloat16>() + h.ValueAt(key, h.args.v_stride), h.args.v_stride, 1}, n, h.args.d);
    PackTokensOfRows(keys.k_across, k, h.k_row(), n, h.panels);
  }
}

// Also computes delta = rowsum(do * o).
void PackQueries(const Head& h, const Scratch& x) {
  const int64_t row = h.q_row(), d = h.args.d;
  for (int64_t query = 0; query < h.args.s; query += kAttentionTile) {
    const QueriesOfTile queries = x.Queries(query / kAttentionTile);
    const int64_t n = std::min(kAttentionTile, h.args.s - query), at = h.QueryAt(query);
    const BFloat16 *const q = h.args.q.as<BFloat16>() + at, *const do_ = h.args.do_.as<BFloat16>() + at;
    PackTileColumns(queries.q, {q, row, 1}, n, d);
    PackTileColumns(queries.do_, {do_, row, 1}, n, d);
    PackTokensOfColumns(queries.q_across, q, row, n, h.panels);
    PackTokensOfColumns(queries.do_across, do_, row, n, h.panels);
    std::fill_n(queries.dq, x.sums(), 0.0f);
    float* const delta_L = x.delta_S + query;
    std::fill_n(delta_L, kAttentionTile, 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      delta_L[i] = SumOfProducts(d, h.args.o.as<BFloat16>() + at + i * row, do_ + i * row);
    }
  }
}

// p = 2^(scaled score - lse) and ds = p (dp - delta) scale, both zero where a query does not see a key, packed for the
// products that use them. scores and dp = v do^T belong to the tile; lse_L is in base 2.
template <bool kMasked>
void ScoreGrad(const Head& h, const VisibleKeys& seen, int64_t key, const float* lse_L, const float* delta_L,
               const Scratch& x) {
  const __m512 scale = _mm512_set1_ps(h.args.scale), scales = _mm512_set1_ps(h.args.scale * kLog2E);
  for (int64_t square = 0; square < 4; ++square) {
    const int64_t lane = square % 2 * kPanelLines, half = square / 2;
    __m512 lse[2], delta[2];
    for (int i = 0; i < 2; ++i) {
      lse[i] = _mm512_loadu_ps(lse_L + lane + i * kLaneStep);
      delta[i] = _mm512_loadu_ps(delta_L + lane + i * kLaneStep);
    }
    for (int64_t row = 0; row < kPanelLines; row += 2) {
      __m512 ds[2][2];
      for (int j = 0; j < 2; ++j) {
        const int64_t at = square * kSumSquare + (row + j) * kPanelLines;
        __m512 p[2];
        for (int i = 0; i < 2; ++i) {
          const __m512 score = _mm512_loadu_ps(x.scores + at + i * kLaneStep);
          p[i] = PowerOfTwo(_mm512_fmsub_ps(score, scales, lse[i]));
          ds[j][i] = p[i] * (_mm512_loadu_ps(x.dp + at + i * kLaneStep) - delta[i]) * scale;
          if constexpr (kMasked) {
            const __mmask16 lanes = LanesSeeing(seen, lane + i * kLaneStep, key + half * kPanelLines + row + j);
            p[i] = _mm512_maskz_mov_ps(lanes, p[i]);
            ds[j][i] = _mm512_maskz_mov_ps(lanes, ds[j][i]);
          }
        }
        const int64_t to = half * kTilePanelWords + RowWords(row + j, lane / 2);
        StoreBeside(x.p_rows + to, p[0], p[1]);
        StoreBeside(x.ds_rows + to, ds[j][0], ds[j][1]);
      }
      uint32_t* const columns = x.ds_columns + lane / kPanelLines * kTilePanelWords;
      for (int i = 0; i < 2; ++i) {
        StoreInterleaved(columns + ColumnWords(i * kLaneStep, (half * kPanelLines + row) / 2), ds[0][i], ds[1][i]);
      }
    }
  }
}

// Whether zeros silence the masked pairs of a tile, that is, whether all operands are finite: non-finite q (through o)
// and do of a query show in delta, non-finite k and v of a key in their products with any query.
bool ZerosSilence(const float* delta_L, const Scratch& x) {
  float operands = SumOfProducts(kAttentionTile, delta_L);
  for (int64_t half = 0; half < 4; half += 2) {
    for (int64_t row = 0; row < kPanelLines; ++row) {
      const int64_t at = half * kSumSquare + row * kPanelLines;
      operands += x.scores[at] + x.dp[at];
    }
  }
  return std::isfinite(operands);
}

// dv += p do, dk += ds q and dq^T += k^T ds for a tile; with `exactly`, over the visible pairs alone, whatever the
// operands are.
void AddGradients(const Head& h, const VisibleKeys& seen, int64_t key, const KeysOfTile& keys,
                  const QueriesOfTile& queries, const Scratch& x, bool exactly) {
  TileStream stream;
  for (int64_t i = 0; i < h.panels.across; ++i) {
    const int64_t across = i * kTilePanelWords;
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t panel = half * kTilePanelWords;
      float* const dv = keys.dv + (half * h.panels.across + i) * kSumSquare;
      float* const dk = keys.dk + (half * h.panels.across + i) * kSumSquare;
      float* const dq = queries.dq + (i * 2 + half) * kSumSquare;
      if (exactly) {
        const auto lanes = [&](int64_t row) { return seen.LanesOfKey(key + half * kPanelLines + row); };
        const auto rows = [&](int64_t lane) { return seen.KeysOfLane(half * kPanelLines + lane, key); };
        MultiplySeen<true>(dv, x.p_rows + panel, queries.do_across + across, kAttentionTile, lanes);
        MultiplySeen<true>(dk, x.ds_rows + panel, queries.q_across + across, kAttentionTile, lanes);
        MultiplySeen<false>(dq, keys.k_across + across, x.ds_columns + panel, kAttentionTile, rows);
        continue;
      }
      stream.Multiply(dv, dv, x.p_rows + panel, queries.do_across + across, kAttentionTile, kPanelLines);
      stream.Multiply(dk, dk, x.ds_rows + panel, queries.q_across + across, kAttentionTile, kPanelLines);
      stream.Multiply(dq, dq, keys.k_across + across, x.ds_columns + panel, kAttentionTile, h.panels.Lines(i));
    }
  }
  stream.Store();
}

void TileGrad(const Head& h, const VisibleKeys& seen, int64_t key, int64_t query, const Scratch& x) {
  const KeysOfTile keys = x.Keys(key / kAttentionTile);
  const QueriesOfTile queries = x.Queries(query / kAttentionTile);
  TileStream stream;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t row = i / 2 * h.panels.along, column = i % 2 * h.panels.along;
    stream.Multiply(x.scores + i * kSumSquare, nullptr, keys.k + row, queries.q + column, h.args.d, kPanelLines);
    stream.Multiply(x.dp + i * kSumSquare, nullptr, keys.v + row, queries.do_ + column, h.args.d, kPanelLines);
  }
  stream.Store();
  alignas(64) float lse_L[kAttentionTile] = {};
  for (int64_t i = 0; i < std::min(kAttentionTile, h.args.s - query); ++i) lse_L[i] = h.lse_S()[query + i] * kLog2E;
  const float* const delta_L = x.delta_S + query;
  const bool masked = !seen.AllSee(key);
  if (masked) {
    ScoreGrad<true>(h, seen, key, lse_L, delta_L, x);
  } else {
    ScoreGrad<false>(h, seen, key, lse_L, delta_L, x);
  }
  AddGradients(h, seen, key, keys, queries, x, masked && !ZerosSilence(delta_L, x));
}

void StoreQueryGrads(const Head& h, const Scratch& x) {
  alignas(64) float ones[kPanelLines];
  std::fill_n(ones, kPanelLines, 1.0f);
  for (int64_t query = 0; query < h.args.s; query += kPanelLines) {
    const int64_t n = std::min(kPanelLines, h.args.s - query), half = query / kPanelLines % 2;
    const float* const dq = x.Queries(query / kAttentionTile).dq;
    for (int64_t i = 0; i < h.panels.across; ++i) {
      StoreTransposed(h.args.dq.as<BFloat16>() + h.QueryAt(query) + i * kPanelLines, h.q_row(),
                      dq + (i * 2 + half) * kSumSquare, ones, n, h.panels.Lines(i));
    }
  }
}

void StoreKeyGrads(const Head& h, const Scratch& x) {
  const int64_t keys = KeysPerRow(h.args), row = h.args.dv_stride;
  for (int64_t key = 0; key < keys; key += kPanelLines) {
    const int64_t n = std::min(kPanelLines, keys - key), half = key / kPanelLines % 2;
    const KeysOfTile tile = x.Keys(key / kAttentionTile);
    for (int64_t i = 0; i < h.panels.across; ++i) {
      const int64_t at = (half * h.panels.across + i) * kSumSquare, column = i * kPanelLines;
      StoreSquare(h.args.dk.as<BFloat16>() + h.KeyAt(key) + column, h.k_row(), tile.dk + at, n, h.panels.Lines(i));
      StoreSquare(h.args.dv.as<BFloat16>() + h.ValueAt(key, row) + column, row, tile.dv + at, n, h.panels.Lines(i));
    }
  }
}

}  // namespace

int64_t PanelAttentionGradScratch(int64_t s, int64_t keys, int64_t d) { return Scratch::Words(s, keys, HeadPanels(d)); }

void PanelAttentionGrad(const AttentionGradArgs& args, int64_t begin, int64_t end, float* scratch) {
  const HeadPanels panels(args.d);
  const Scratch x(scratch, args.s, KeysPerRow(args), panels);
  const TileRegisters registers;
  const int64_t group = args.q_heads / args.kv_heads;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t b = task / args.kv_heads, kv_head = task % args.kv_heads;
    Head h{args, b, kv_head, kv_head * group, panels, args.keys > 0 ? KeysSeenInRow(args, b) : args.s};
    PackKeys(h, x);
    for (; h.head < (kv_head + 1) * group; ++h.head) {
      PackQueries(h, x);
      for (int64_t key = 0; key < h.seen; key += kAttentionTile) {
        for (int64_t query = args.keys > 0 ? 0 : key; query < args.s; query += kAttentionTile) {
          const VisibleKeys seen(args, b, query);
          if (seen.SomeSee(key)) TileGrad(h, seen, key, query, x);
        }
      }
      StoreQueryGrads(h, x);
    }
    StoreKeyGrads(h, x);
  }
}

}  // namespace angel_ptm

#endif
