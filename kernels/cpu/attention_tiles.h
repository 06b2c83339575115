// The small dense products and transpositions that attention is made of, on one thread, on tiles that live in L1 and
// L2. Tiles keep queries along the vector lanes ("L"), so the softmax over keys needs no sum across lanes.
#ifndef ANGEL_PTM_KERNELS_CPU_ATTENTION_TILES_H_
#define ANGEL_PTM_KERNELS_CPU_ATTENTION_TILES_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/bf16.h"

namespace angel_ptm {

inline constexpr int64_t kHeadDimMax = 256;
// The largest head dimension of attention itself, whose tiles lie in scratch memory: the single head of an autoencoder
// is as wide as its channels.
inline constexpr int64_t kAttentionDimMax = 512;
inline constexpr int64_t kAttentionTile = 64;  // queries and keys per tile
inline constexpr int64_t kLaneStep = 16;       // queries per group of lanes; also keys per step of a diagonal tile

// Scratch of one thread, in fp32 elements. Forward: queries and output transposed [D,L], scores [keys,L] and three [L].
// With bf16 operands also one tile each of queries, keys and values in fp32.
constexpr int64_t AttentionScratch(int64_t d, bool bf16) {
  return (bf16 ? 5 : 2) * d * kAttentionTile + kAttentionTile * kAttentionTile + 3 * kAttentionTile;
}
// Backward: queries and output gradients of one head, transposed tile by tile [S/L,D,L], delta [S], and two [keys,L].
// With bf16 operands also q, k, v, o and do of one head in fp32, and the fp32 sums of dq, dk and dv.
constexpr int64_t AttentionGradScratch(int64_t s, int64_t d, bool bf16) {
  const int64_t padded = (s + kAttentionTile - 1) / kAttentionTile * kAttentionTile;
  return (bf16 ? 10 : 2) * padded * d + padded + 2 * kAttentionTile * kAttentionTile;
}

// WidenRows: to[rows,D] = from, widened. RoundRows: to[rows,D] = from, rounded. Attention on bf16 operands is attention
// on fp32 copies of them.
void WidenRows(float* to, const BFloat16* from, int64_t from_row, int64_t rows, int64_t d);
void RoundRows(BFloat16* to, int64_t to_row, const float* from, int64_t rows, int64_t d);

// c[m,n] (+)= a b with b [k,n]. Element (i,l) of a is a[i * a_row + l * a_k], so a may be stored in either order.
struct TileProduct {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int64_t a_row = 0, a_k = 1;
  const float* b = nullptr;
  int64_t ldb = 0;
  float* c = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;
};
void MultiplyTiles(const TileProduct& product);

// to[D,L] = scale * from[rows,D]^T; lanes from `rows` to the next multiple of kLaneStep become zero.
void TransposeIntoLanes(float* to_DL, const float* from, int64_t from_row, int64_t rows, int64_t d, float scale);
// to[rows,D] = (from[D,L] * factor[L])^T.
void TransposeFromLanes(float* to, int64_t to_row, const float* from_DL, const float* factor_L, int64_t rows,
                        int64_t d);

struct Interval {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

struct KeyTile;

// Queries [begin, begin + n) of a row. Causal attention: with the start of each query's document, which never decreases
// within a row. Full attention: with the number of keys that each of them sees.
struct QueryTile {
  int64_t begin = 0, n = 0;
  int64_t keys = 0;                                   // 0: causal
  int64_t lanes = 0;                                  // n rounded up to kLaneStep
  alignas(64) int32_t segment_start[kAttentionTile];  // causal; lanes from n on repeat the last query's

  QueryTile(const int32_t* segment_start_S, int64_t s, int64_t first_query);
  static QueryTile Full(int64_t s, int64_t first_query, int64_t keys);
  // Whether some query sees a key of the tile that begins at `key`.
  bool Sees(int64_t key) const {
    return keys > 0 ? key < keys : key <= begin && segment_start[0] < key + kAttentionTile;
  }
  // Whether every query sees all keys that this tile has.
  bool SeesAll(int64_t key) const { return keys > 0 || (key < begin && segment_start[kAttentionTile - 1] <= key); }
  // The first key of the first tile of keys that some query sees.
  int64_t FirstKeyTile() const { return keys > 0 ? 0 : segment_start[0] / kAttentionTile * kAttentionTile; }
  // The lanes, in whole steps, that see some key of the step that begins at row `row` of `tile`.
  Interval LanesSeeing(const KeyTile& tile, int64_t row) const;
  // The rows of `tile`, in whole steps, whose LanesSeeing includes the step of lanes that begins at `lane`.
  Interval KeysSeen(const KeyTile& tile, int64_t lane) const;

 private:
  QueryTile(int64_t s, int64_t first_query);
};

// Keys [begin, begin + n) of a row as a query tile sees them. If some pair is masked, products advance in steps of
// kLaneStep keys and skip the lane steps that see none of these keys: those elements of a [keys,L] tile are never read.
// A masked pair inside a step has weight 0, which silences any finite number but not NaN and infinity. Products with
// such operands use SinglePairs(), whose steps of one key and one lane skip every masked pair.
struct KeyTile {
  int64_t begin, n;
  bool masked;
  int64_t step;  // keys per product, a power of two; if masked, also lanes per step

  // `s`: tokens of a row of causal attention.
  KeyTile(const QueryTile& queries, int64_t key, int64_t s)
      : begin(key),
        n(std::min(kAttentionTile, (queries.keys > 0 ? queries.keys : s) - key)),
        masked(!queries.SeesAll(key)),
        step(masked ? kLaneStep : kAttentionTile) {}
  int64_t Rows(int64_t row) const { return std::min(step, n - row); }
  // For a masked tile. The visible terms of a sum keep their order, so a sum of finite terms has the same bits either
  // way.
  KeyTile SinglePairs() const {
    KeyTile single = *this;
    single.step = 1;
    return single;
  }
};

inline Interval QueryTile::LanesSeeing(const KeyTile& tile, int64_t row) const {
  if (!tile.masked) return {0, lanes};
  const int64_t key = tile.begin + row, step = tile.step;
  Interval seeing = {std::max<int64_t>(0, key - begin) & -step, lanes};
  while (seeing.end > seeing.begin && segment_start[seeing.end - step] >= key + step) seeing.end -= step;
  return seeing;
}

inline Interval QueryTile::KeysSeen(const KeyTile& tile, int64_t lane) const {
  if (!tile.masked) return {0, tile.n};
  const int64_t first = std::max<int64_t>(0, segment_start[lane] - tile.begin) & -tile.step;
  const int64_t end = std::min(tile.n, begin + lane + tile.step - tile.begin);
  return {std::min(first, end), end};
}

// KeysPerRow, KeysSeenInRow (full attention only) and QueriesOf take AttentionArgs or AttentionGradArgs.
template <typename Args>
int64_t KeysPerRow(const Args& args) {
  return args.keys > 0 ? args.keys : args.s;
}
template <typename Args>
int64_t KeysSeenInRow(const Args& args, int64_t b) {
  return args.key_counts == nullptr ? args.keys : args.key_counts[b];
}
template <typename Args>
QueryTile QueriesOf(const Args& args, int64_t b, int64_t first_query) {
  if (args.keys > 0) return QueryTile::Full(args.s, first_query, KeysSeenInRow(args, b));
  return QueryTile(args.segment_start + b * args.s, args.s, first_query);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_ATTENTION_TILES_H_
