#include "kernels/ops/qk_rope_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTokenGrain = 4;

// One token's rotation, shared by all of its heads.
template <typename Dim>
struct Rotation {
  alignas(64) float cos[kHeadDimMax / 2], sin[kHeadDimMax / 2];
  Dim d;

  Rotation(const float* cos_sin, Dim dim) : d(dim) {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      cos[i] = cos_sin[2 * i];
      sin[i] = cos_sin[2 * i + 1];
    }
  }
  // y = R x: pairs (i, i + D/2) turned by their angle.
  void Apply(float* __restrict y_D, const float* __restrict x_D) const {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      y_D[i] = x_D[i] * cos[i] - x_D[i + half] * sin[i];
      y_D[i + half] = x_D[i + half] * cos[i] + x_D[i] * sin[i];
    }
  }
  // dx = R^T dy.
  void ApplyTransposed(float* __restrict dx_D, const float* __restrict dy_D) const {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      dx_D[i] = dy_D[i] * cos[i] + dy_D[i + half] * sin[i];
      dx_D[i + half] = dy_D[i + half] * cos[i] - dy_D[i] * sin[i];
    }
  }
};

// Returns rstd.
template <typename Dim>
float RotateAndNorm(float* __restrict y_D, const float* x_D, const float* __restrict weight_D,
                    const Rotation<Dim>& rotation, float epsilon) {
  const Dim d = rotation.d;
  alignas(64) float rotated_D[kHeadDimMax];
  rotation.Apply(rotated_D, x_D);
  const float square = SumOfProducts(d, rotated_D, rotated_D);
  const float rstd = 1.0f / std::sqrt(square / static_cast<float>(d) + epsilon);
  for (int64_t i = 0; i < d; ++i) y_D[i] = weight_D[i] * (rotated_D[i] * rstd);
  return rstd;
}

// With n = R x rstd and g = dy weight:  dx = R^T (rstd (g - n mean(g n))),  dweight += dy n.
template <typename Dim>
void RotateAndNormGrad(float* dx_D, float* __restrict dweight_D, const float* __restrict dy_D, const float* x_D,
                       float rstd, const float* __restrict weight_D, const Rotation<Dim>& rotation) {
  const Dim d = rotation.d;
  alignas(64) float rotated_D[kHeadDimMax], drotated_D[kHeadDimMax];
  rotation.Apply(rotated_D, x_D);
  const float dot = SumOfProducts(d, dy_D, weight_D, rotated_D);
  const float along = dot * rstd * rstd / static_cast<float>(d);
  for (int64_t i = 0; i < d; ++i) {
    dweight_D[i] += dy_D[i] * (rotated_D[i] * rstd);
    drotated_D[i] = rstd * (dy_D[i] * weight_D[i] - rotated_D[i] * along);
  }
  rotation.ApplyTransposed(dx_D, drotated_D);
}

template <typename Dim>
void TokenGrad(const QkRopeNormGradArgs& args, Dim dim, int64_t token, float* dq_weight_D, float* dk_weight_D) {
  const int64_t d = dim, q_heads = args.q_heads, kv_heads = args.kv_heads;
  const Rotation<Dim> rotation(args.cos_sin.as<float>() + token * d, dim);
  const int64_t row = token * (q_heads + 2 * kv_heads) * d;
  const float* x = args.qkv.as<float>() + row;
  float* dx = args.dqkv.as<float>() + row;
  for (int64_t i = 0; i < q_heads; ++i, x += d, dx += d) {
    const int64_t head = token * q_heads + i;
    RotateAndNormGrad(dx, dq_weight_D, args.dq.as<float>() + head * d, x, args.q_rstd.as<float>()[head],
                      args.q_weight.as<float>(), rotation);
  }
  for (int64_t i = 0; i < kv_heads; ++i, x += d, dx += d) {
    const int64_t head = token * kv_heads + i;
    RotateAndNormGrad(dx, dk_weight_D, args.dk.as<float>() + head * d, x, args.k_rstd.as<float>()[head],
                      args.k_weight.as<float>(), rotation);
  }
}

template <typename Dim>
void Token(const QkRopeNormArgs& args, Dim dim, int64_t token) {
  const int64_t d = dim, q_heads = args.q_heads, kv_heads = args.kv_heads;
  const Rotation<Dim> rotation(args.cos_sin.as<float>() + token * d, dim);
  const float* x = args.qkv.as<float>() + token * (q_heads + 2 * kv_heads) * d;
  for (int64_t i = 0; i < q_heads; ++i, x += d) {
    const int64_t head = token * q_heads + i;
    args.q_rstd.as<float>()[head] =
        RotateAndNorm(args.q.as<float>() + head * d, x, args.q_weight.as<float>(), rotation, args.epsilon);
  }
  for (int64_t i = 0; i < kv_heads; ++i, x += d) {
    const int64_t head = token * kv_heads + i;
    args.k_rstd.as<float>()[head] =
        RotateAndNorm(args.k.as<float>() + head * d, x, args.k_weight.as<float>(), rotation, args.epsilon);
  }
}

void Run(const QkRopeNormArgs& args, const KernelContext& ctx) {
  ParallelRanges(ctx.threads, args.t, kTokenGrain, [&](int64_t begin, int64_t end, int) {
    WithHeadDim(args.d, [&](auto d) {
      for (int64_t token = begin; token < end; ++token) Token(args, d, token);
    });
  });
}

// Workspace: TokenBlocks(T) * 2 * D fp32, a block's dq_weight then its dk_weight.
void Run(const QkRopeNormGradArgs& args, const KernelContext& ctx) {
  const int64_t d = args.d, block = TokenBlock(args.t), blocks = TokenBlocks(args.t);
  float* partial_N2D = reinterpret_cast<float*>(ctx.workspace);
  ParallelFor(ctx.threads, blocks, [&](int64_t n) {
    float* dweight_2D = partial_N2D + n * 2 * d;
    std::fill(dweight_2D, dweight_2D + 2 * d, 0.0f);
    WithHeadDim(d, [&](auto dim) {
      for (int64_t i = n * block; i < std::min(args.t, (n + 1) * block); ++i) {
        TokenGrad(args, dim, i, dweight_2D, dweight_2D + d);
      }
    });
  });
  if (args.dq_weight)
    AddTokenBlocks(args.dq_weight.as<float>(), partial_N2D, blocks, 2 * d, 0, d, args.accumulate_dweight);
  if (args.dk_weight)
    AddTokenBlocks(args.dk_weight.as<float>(), partial_N2D + d, blocks, 2 * d, 0, d, args.accumulate_dweight);
}

absl::Status CanRun(const QkRopeNormArgs& args) {
  RETURN_IF_ERROR(Fp32Only("qk_rope_norm", {args.q.dtype, args.k.dtype, args.qkv.dtype}));
  return HeadsSupported("qk_rope_norm", args.q_heads, args.kv_heads, args.d);
}

int64_t WorkspaceBytes(const QkRopeNormGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t) * 2 * args.d);
}

absl::Status CanRun(const QkRopeNormGradArgs& args) {
  RETURN_IF_ERROR(Fp32Only("qk_rope_norm_grad", {args.dqkv.dtype, args.qkv.dtype}));
  return HeadsSupported("qk_rope_norm_grad", args.q_heads, args.kv_heads, args.d);
}

}  // namespace

Kernel<QkRopeNormArgs> CpuQkRopeNorm() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<QkRopeNormGradArgs> CpuQkRopeNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
