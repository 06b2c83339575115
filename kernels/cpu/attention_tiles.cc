#include "kernels/cpu/attention_tiles.h"

#include <utility>

namespace angel_ptm {
namespace {

// A register of kLanes floats, and the same type at any address.
template <int kLanes>
struct Register {
  typedef float Type __attribute__((vector_size(kLanes * sizeof(float))));
  typedef float Unaligned __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
};
template <>
struct Register<1> {
  using Type = float;
  using Unaligned = float;
};

// Register tiles: kRowsMax x kVectorsMax accumulators, one row of b and a broadcast element of a.
#ifdef __AVX512F__
constexpr int kRegisterLanes = 16, kVectorsMax = 4;
#else
constexpr int kRegisterLanes = 8, kVectorsMax = 2;
#endif
constexpr int kRowsMax = 6;

template <int kWidth, int kRows, int kVectors>
inline void MultiplyRegisterTile(const TileProduct& p, int64_t row, int64_t column) {
  using Vector = typename Register<kWidth>::Type;
  using Unaligned = typename Register<kWidth>::Unaligned;
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  float* c = p.c + row * p.ldc + column;
  Vector sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      sum[i][j] = p.accumulate ? *reinterpret_cast<const Unaligned*>(c + i * p.ldc + j * kWidth) : Vector{};
    }
  }
#pragma GCC unroll 4
  for (int64_t l = 0; l < p.k; ++l, a += p.a_k, b += p.ldb) {
    Vector b_row[kVectors];
    for (int j = 0; j < kVectors; ++j) b_row[j] = *reinterpret_cast<const Unaligned*>(b + j * kWidth);
    for (int i = 0; i < kRows; ++i) {
      const float a_element = a[i * p.a_row];
      for (int j = 0; j < kVectors; ++j) sum[i][j] += a_element * b_row[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) *reinterpret_cast<Unaligned*>(c + i * p.ldc + j * kWidth) = sum[i][j];
  }
}

template <int kWidth, int kVectors>
void MultiplyColumns(const TileProduct& p, int64_t column) {
  int64_t row = 0;
  for (; row + kRowsMax <= p.m; row += kRowsMax) MultiplyRegisterTile<kWidth, kRowsMax, kVectors>(p, row, column);
  switch (p.m - row) {
    case 5:
      return MultiplyRegisterTile<kWidth, 5, kVectors>(p, row, column);
    case 4:
      return MultiplyRegisterTile<kWidth, 4, kVectors>(p, row, column);
    case 3:
      return MultiplyRegisterTile<kWidth, 3, kVectors>(p, row, column);
    case 2:
      return MultiplyRegisterTile<kWidth, 2, kVectors>(p, row, column);
    case 1:
      return MultiplyRegisterTile<kWidth, 1, kVectors>(p, row, column);
    default:
      return;
  }
}

constexpr int kBlock = 16;
using Vector16 = Register<kBlock>::Type;
using Unaligned16 = Register<kBlock>::Unaligned;

// One step of Eklundh's transposition: swaps the off-diagonal kStep x kStep quarters of every 2 kStep x 2 kStep square.
template <int kStep, int... kLane>
inline void SwapQuarters(Vector16 (&rows)[kBlock], std::integer_sequence<int, kLane...>) {
  for (int i = 0; i < kBlock; ++i) {
    if (i & kStep) continue;
    const Vector16 a = rows[i], b = rows[i + kStep];
    rows[i] = __builtin_shufflevector(a, b, ((kLane & kStep) ? kBlock + kLane - kStep : kLane)...);
    rows[i + kStep] = __builtin_shufflevector(a, b, ((kLane & kStep) ? kBlock + kLane : kLane + kStep)...);
  }
}

inline void TransposeBlock(Vector16 (&rows)[kBlock]) {
  constexpr std::make_integer_sequence<int, kBlock> kLaneSequence;
  SwapQuarters<8>(rows, kLaneSequence);
  SwapQuarters<4>(rows, kLaneSequence);
  SwapQuarters<2>(rows, kLaneSequence);
  SwapQuarters<1>(rows, kLaneSequence);
}

}  // namespace

void MultiplyTiles(const TileProduct& p) {
  int64_t column = 0;
  for (; column + kVectorsMax * kRegisterLanes <= p.n; column += kVectorsMax * kRegisterLanes) {
    MultiplyColumns<kRegisterLanes, kVectorsMax>(p, column);
  }
  if constexpr (kVectorsMax > 2) {
    if (column + 3 * kRegisterLanes <= p.n) {
      MultiplyColumns<kRegisterLanes, 3>(p, column);
      column += 3 * kRegisterLanes;
    } else if (column + 2 * kRegisterLanes <= p.n) {
      MultiplyColumns<kRegisterLanes, 2>(p, column);
      column += 2 * kRegisterLanes;
    }
  }
  if (column + kRegisterLanes <= p.n) {
    MultiplyColumns<kRegisterLanes, 1>(p, column);
    column += kRegisterLanes;
  }
  for (; column + 4 <= p.n; column += 4) MultiplyColumns<4, 1>(p, column);
  for (; column < p.n; ++column) MultiplyColumns<1, 1>(p, column);
}

void TransposeIntoLanes(float* to_DL, const float* from, int64_t from_row, int64_t rows, int64_t d, float scale) {
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t n = std::min<int64_t>(kBlock, rows - row);
    const float* block = from + row * from_row;
    int64_t i = 0;
    for (; i + kBlock <= d; i += kBlock) {
      Vector16 values[kBlock];
      for (int lane = 0; lane < kBlock; ++lane) {
        values[lane] =
            lane < n ? *reinterpret_cast<const Unaligned16*>(block + lane * from_row + i) * scale : Vector16{};
      }
      TransposeBlock(values);
      for (int j = 0; j < kBlock; ++j) {
        *reinterpret_cast<Unaligned16*>(to_DL + (i + j) * kAttentionTile + row) = values[j];
      }
    }
    for (; i < d; ++i) {
      float* to_L = to_DL + i * kAttentionTile + row;
      for (int64_t lane = 0; lane < kBlock; ++lane) to_L[lane] = lane < n ? block[lane * from_row + i] * scale : 0.0f;
    }
  }
}

void TransposeFromLanes(float* to, int64_t to_row, const float* from_DL, const float* factor_L, int64_t rows,
                        int64_t d) {
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t n = std::min<int64_t>(kBlock, rows - row);
    float* block = to + row * to_row;
    const Vector16 factor = *reinterpret_cast<const Unaligned16*>(factor_L + row);
    int64_t i = 0;
    for (; i + kBlock <= d; i += kBlock) {
      Vector16 values[kBlock];
      for (int j = 0; j < kBlock; ++j) {
        values[j] = *reinterpret_cast<const Unaligned16*>(from_DL + (i + j) * kAttentionTile + row) * factor;
      }
      TransposeBlock(values);
      for (int lane = 0; lane < n; ++lane) *reinterpret_cast<Unaligned16*>(block + lane * to_row + i) = values[lane];
    }
    for (; i < d; ++i) {
      const float* from_L = from_DL + i * kAttentionTile + row;
      for (int64_t lane = 0; lane < n; ++lane) block[lane * to_row + i] = from_L[lane] * factor_L[row + lane];
    }
  }
}

void WidenRows(float* to, const BFloat16* from, int64_t from_row, int64_t rows, int64_t d) {
  for (int64_t i = 0; i < rows; ++i, to += d, from += from_row) {
    int64_t j = 0;
    for (; j + kVectorLanes <= d; j += kVectorLanes) {
      Vector x;
      LoadVector(x, from + j);
      StoreVector(to + j, x);
    }
    for (; j < d; ++j) to[j] = ToFloat(from[j]);
  }
}

void RoundRows(BFloat16* to, int64_t to_row, const float* from, int64_t rows, int64_t d) {
  for (int64_t i = 0; i < rows; ++i, to += to_row, from += d) {
    for (int64_t j = 0; j < d; ++j) to[j] = ToBFloat16(from[j]);
  }
}

QueryTile::QueryTile(int64_t s, int64_t first_query)
    : begin(first_query), n(std::min(kAttentionTile, s - first_query)) {
  lanes = (n + kLaneStep - 1) / kLaneStep * kLaneStep;
}

QueryTile QueryTile::Full(int64_t s, int64_t first_query, int64_t keys) {
  QueryTile tile(s, first_query);
  tile.keys = keys;
  return tile;
}

QueryTile::QueryTile(const int32_t* segment_start_S, int64_t s, int64_t first_query) : QueryTile(s, first_query) {
  for (int64_t i = 0; i < kAttentionTile; ++i) segment_start[i] = segment_start_S[begin + std::min(i, n - 1)];
}

}  // namespace angel_ptm
