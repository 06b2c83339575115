// A block's tile of a matrix product of fp32 operands, by FMA, for every GPU.
//
// A block of 256 threads computes a tile of 128 x 128; a thread computes 8 x 8 as four squares of 4 x 4. The block
// advances in steps of 8 k through two stages in shared memory (17 KB). While one step is multiplied, the next one
// waits in registers, four elements of each operand per thread. A row in shared memory is 16 bytes longer than the
// tile, so that an operand with rows of k, which is transposed on its way, is written to different banks. Per k a
// thread reads 16 elements for 64 FMA, at addresses that its neighbours read, too: there are no bank conflicts. Extents
// that are not multiples of 4 are read element by element. The sum over k of an element is one chain of FMA in order,
// whatever M and N are.
#ifndef ANGEL_PTM_KERNELS_CUDA_FMA_TILES_CUH_
#define ANGEL_PTM_KERNELS_CUDA_FMA_TILES_CUH_

#include "kernels/cuda/matrix.cuh"

namespace angel_ptm::cuda {

namespace fma {

constexpr int kStep = 8, kStages = 2, kQuad = 4, kPitch = kMatmulTile + kQuad;
constexpr int kOperandElements = kStep * kPitch;
constexpr int kAcross = 16, kHalf = kMatmulTile / 2;  // threads per row; distance between a thread's squares
static_assert(kMatmulThreads * kQuad == kMatmulTile * kStep && kMatmulThreads == kAcross * kAcross);

APTM_DEVICE void LoadQuad(float (&x)[kQuad], const float* from) {
  const float4 quad = *reinterpret_cast<const float4*>(from);
  x[0] = quad.x, x[1] = quad.y, x[2] = quad.z, x[3] = quad.w;
}
APTM_DEVICE void StoreQuad(float* to, const float (&x)[kQuad]) {
  *reinterpret_cast<float4*>(to) = float4{x[0], x[1], x[2], x[3]};
}

// A thread's part of a step, four neighbours in a row of an operand: of op(a) with rows along m, or of op(b) with rows
// along n.
template <bool kRowsOfK>
class Part {
 public:
  APTM_DEVICE Part() {
    const int thread = threadIdx.x;
    outer_ = kRowsOfK ? thread / (kStep / kQuad) : thread % (kMatmulTile / kQuad) * kQuad;
    k_ = kRowsOfK ? thread % (kStep / kQuad) * kQuad : thread / (kMatmulTile / kQuad);
  }

  APTM_DEVICE void Fetch(const Matrix<float>& from, std::int64_t outer, std::int64_t k) {
    const std::int64_t row = kRowsOfK ? outer + outer_ : k + k_, column = kRowsOfK ? k + k_ : outer + outer_;
    const float* const at = from.data + row * from.stride + column;
    const std::int64_t within = row < from.rows ? from.columns - column : 0;
    if (from.is_aligned && within > 0) return LoadQuad(x_, at);
    APTM_UNROLL for (int j = 0; j < kQuad; ++j) x_[j] = j < within ? at[j] : 0.0f;
  }

  // Writes the part to a stage [kStep][kPitch].
  APTM_DEVICE void Put(float* stage) const {
    if constexpr (kRowsOfK) {
      APTM_UNROLL for (int j = 0; j < kQuad; ++j) stage[(k_ + j) * kPitch + outer_] = x_[j];
    } else {
      StoreQuad(stage + k_ * kPitch + outer_, x_);
    }
  }

 private:
  int outer_, k_;
  float x_[kQuad];
};

// The thread's squares are at (Down(), Along()), and kHalf further down, further along, and both.
APTM_DEVICE int Down() { return static_cast<int>(threadIdx.x) / kAcross * kQuad; }
APTM_DEVICE int Along() { return static_cast<int>(threadIdx.x) % kAcross * kQuad; }

APTM_DEVICE void MultiplyStep(float (&sums)[2 * kQuad][2 * kQuad], const float* a_stage, const float* b_stage) {
  APTM_UNROLL for (int k = 0; k < kStep; ++k) {
    float a[2][kQuad], b[2][kQuad];
    APTM_UNROLL for (int half = 0; half < 2; ++half) {
      LoadQuad(a[half], a_stage + k * kPitch + Down() + half * kHalf);
      LoadQuad(b[half], b_stage + k * kPitch + Along() + half * kHalf);
    }
    APTM_UNROLL for (int i = 0; i < 2 * kQuad; ++i) {
      APTM_UNROLL for (int j = 0; j < 2 * kQuad; ++j) {
        sums[i][j] = fmaf(a[i / kQuad][i % kQuad], b[j / kQuad][j % kQuad], sums[i][j]);
      }
    }
  }
}

APTM_DEVICE void StoreTile(const Result& c, const float (&sums)[2 * kQuad][2 * kQuad], std::int64_t row,
                           std::int64_t column) {
  APTM_UNROLL for (int i = 0; i < 2 * kQuad; ++i) {
    const std::int64_t r = row + Down() + i / kQuad * kHalf + i % kQuad;
    if (r < c.row_begin || r >= c.row_end) continue;
    APTM_UNROLL for (int j = 0; j < 2 * kQuad; j += 2) {
      const std::int64_t at = column + Along() + j / kQuad * kHalf + j % kQuad;
      if (at >= c.columns) continue;
      StorePair(static_cast<float*>(c.data) + r * c.columns + at, sums[i][j], sums[i][j + 1], at + 1 < c.columns,
                c.accumulate);
    }
  }
}

}  // namespace fma

template <>
inline constexpr std::size_t kMatmulSharedBytes<float> = 2 * fma::kStages* fma::kOperandElements * sizeof(float);

// Computes the tile at (row, column) of c (+)= op(a) op(b), c in fp32, over k of [0, k). `shared` has
// kMatmulSharedBytes<float> bytes.
template <bool kTransA, bool kTransB>
APTM_DEVICE void MultiplyTile(const Result& c, const Matrix<float>& a, const Matrix<float>& b, std::int64_t row,
                              std::int64_t column, std::int64_t k, unsigned char* shared) {
  const auto stage_of = [&](std::int64_t step) {
    return reinterpret_cast<float*>(shared) + step % fma::kStages * 2 * fma::kOperandElements;
  };
  fma::Part<!kTransA> a_part;
  fma::Part<kTransB> b_part;
  const std::int64_t steps = (k + fma::kStep - 1) / fma::kStep;
  float sums[2 * fma::kQuad][2 * fma::kQuad] = {};
  for (std::int64_t step = -1; step < steps; ++step) {
    const bool has_next = step + 1 < steps;
    if (has_next) {
      a_part.Fetch(a, row, (step + 1) * fma::kStep);
      b_part.Fetch(b, column, (step + 1) * fma::kStep);
    }
    if (step >= 0) fma::MultiplyStep(sums, stage_of(step), stage_of(step) + fma::kOperandElements);
    if (!has_next) break;
    a_part.Put(stage_of(step + 1));
    b_part.Put(stage_of(step + 1) + fma::kOperandElements);
    __syncthreads();  // the next step is stored, and the stage of this one is free
  }
  fma::StoreTile(c, sums, row, column);
}

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_FMA_TILES_CUH_
