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

constexpr int64_t kQkRopeNormTokenGrain = 4;

// One token's rotation, shared by all of its heads.
template <typename Dim>
struct QkRotation {
  alignas(64) float cos[kHeadDimMax / 2], sin[kHeadDimMax / 2];
  Dim d;

  QkRotation(const float* cos_sin, Dim dim) : d(dim) {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      cos[i] = cos_sin[2 * i];
      sin[i] = cos_sin[2 * i + 1];
    }
  }
  // y = R x: pairs (i, i + D/2) rotated by their angle.
  template <typename T>
  void Apply(float* __restrict y_D, const T* __restrict x_D) const {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      const float first = ToFloat(x_D[i]), second = ToFloat(x_D[i + half]);
      y_D[i] = first * cos[i] - second * sin[i];
      y_D[i + half] = second * cos[i] + first * sin[i];
    }
  }
  // dx = R^T dy.
  template <typename T>
  void ApplyTransposed(T* __restrict dx_D, const float* __restrict dy_D) const {
    const int64_t half = d / 2;
    for (int64_t i = 0; i < half; ++i) {
      dx_D[i] = Rounded<T>(dy_D[i] * cos[i] + dy_D[i + half] * sin[i]);
      dx_D[i + half] = Rounded<T>(dy_D[i + half] * cos[i] - dy_D[i] * sin[i]);
    }
  }
};

// Returns rstd.
template <typename T, typename Dim>
float RotateAndNorm(T* __restrict y_D, const T* x_D, const T* __restrict weight_D, const QkRotation<Dim>& rotation,
                    float epsilon) {
  const Dim d = rotation.d;
  alignas(64) float rotated_D[kHeadDimMax];
  rotation.Apply(rotated_D, x_D);
  const float square = SumOfProducts(d, rotated_D, rotated_D);
  const float rstd = 1.0f / std::sqrt(square / static_cast<float>(d) + epsilon);
  for (int64_t i = 0; i < d; ++i) y_D[i] = Rounded<T>(ToFloat(weight_D[i]) * (rotated_D[i] * rstd));
  return rstd;
}

// With n = R x rstd and g = dy weight:  dx = R^T (rstd (g - n mean(g n))),  dweight += dy n.
template <typename T, typename Dim>
void RotateAndNormGrad(T* dx_D, float* __restrict dweight_D, const T* __restrict dy_D, const T* x_D, float rstd,
                       const T* __restrict weight_D, const QkRotation<Dim>& rotation) {
  const Dim d = rotation.d;
  alignas(64) float rotated_D[kHeadDimMax], drotated_D[kHeadDimMax];
  rotation.Apply(rotated_D, x_D);
  const float dot = SumOfProducts(d, dy_D, weight_D, rotated_D);
  const float along = dot * rstd * rstd / static_cast<float>(d);
  for (int64_t i = 0; i < d; ++i) {
    const float dy = ToFloat(dy_D[i]);
    dweight_D[i] += dy * (rotated_D[i] * rstd);
    drotated_D[i] = rstd * (dy * ToFloat(weight_D[i]) - rotated_D[i] * along);
  }
  rotation.ApplyTransposed(dx_D, drotated_D);
}

template <typename T, typename Dim>
void TokenGrad(const QkRopeNormGradArgs& args, Dim dim, int64_t token, float* dq_weight_D, float* dk_weight_D) {
  const int64_t d = dim, q_heads = args.q_heads, kv_heads = args.kv_heads;
  const QkRotation<Dim> rotation(args.cos_sin.as<float>() + token * d, dim);
  const int64_t row = token * (q_heads + 2 * kv_heads) * d;
  const T* x = args.qkv.as<T>() + row;
  T* dx = args.dqkv.as<T>() + row;
  for (int64_t i = 0; i < q_heads; ++i, x += d, dx += d) {
    const int64_t head = token * q_heads + i;
    RotateAndNormGrad(dx, dq_weight_D, args.dq.as<T>() + head * d, x, args.q_rstd.as<float>()[head],
                      args.q_weight.as<T>(), rotation);
  }
  for (int64_t i = 0; i < kv_heads; ++i, x += d, dx += d) {
    const int64_t head = token * kv_heads + i;
    RotateAndNormGrad(dx, dk_weight_D, args.dk.as<T>() + head * d, x, args.k_rstd.as<float>()[head],
                      args.k_weight.as<T>(), rotation);
  }
}

template <typename T, typename Dim>
void Token(const QkRopeNormArgs& args, Dim dim, int64_t token) {
  const int64_t d = dim, q_heads = args.q_heads, kv_heads = args.kv_heads;
  const QkRotation<Dim> rotation(args.cos_sin.as<float>() + token * d, dim);
  const T* x = args.qkv.as<T>() + token * (q_heads + 2 * kv_heads) * d;
  for (int64_t i = 0; i < q_heads; ++i, x += d) {
    const int64_t head = token * q_heads + i;
    args.q_rstd.as<float>()[head] =
        RotateAndNorm(args.q.as<T>() + head * d, x, args.q_weight.as<T>(), rotation, args.epsilon);
  }
  for (int64_t i = 0; i < kv_heads; ++i, x += d) {
    const int64_t head = token * kv_heads + i;
    args.k_rstd.as<float>()[head] =
        RotateAndNorm(args.k.as<T>() + head * d, x, args.k_weight.as<T>(), rotation, args.epsilon);
  }
}

void Run(const QkRopeNormArgs& args, const KernelContext& ctx) {
  WithElements(args.qkv.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, kQkRopeNormTokenGrain, [&](int64_t begin, int64_t end, int) {
      WithHeadDim(args.d, [&](auto d) {
        for (int64_t token = begin; token < end; ++token) Token<decltype(element)>(args, d, token);
      });
    });
  });
}

void AddBlocksTo(const Operand& dweight, const float* partial, const QkRopeNormGradArgs& args) {
  if (!dweight) return;
  WithElements(dweight.dtype, [&](auto element) {
    AddTokenBlocks(dweight.as<decltype(element)>(), partial, TokenBlocks(args.t), 2 * args.d, 0, args.d,
                   args.accumulate_dweight);
  });
}

// Workspace: TokenBlocks(T) * 2 * D fp32, a block's dq_weight then its dk_weight.
void Run(const QkRopeNormGradArgs& args, const KernelContext& ctx) {
  const int64_t d = args.d, block = TokenBlock(args.t);
  float* partial_N2D = reinterpret_cast<float*>(ctx.workspace);
  WithElements(args.qkv.dtype, [&](auto element) {
    ParallelFor(ctx.threads, TokenBlocks(args.t), [&](int64_t n) {
      float* dweight_2D = partial_N2D + n * 2 * d;
      std::fill(dweight_2D, dweight_2D + 2 * d, 0.0f);
      WithHeadDim(d, [&](auto dim) {
        for (int64_t i = n * block; i < std::min(args.t, (n + 1) * block); ++i) {
          TokenGrad<decltype(element)>(args, dim, i, dweight_2D, dweight_2D + d);
        }
      });
    });
  });
  AddBlocksTo(args.dq_weight, partial_N2D, args);
  AddBlocksTo(args.dk_weight, partial_N2D + d, args);
}

absl::Status CanRun(const QkRopeNormArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16(
      "qk_rope_norm",
      {.same =
           {{"qkv", args.qkv}, {"q", args.q}, {"k", args.k}, {"q_weight", args.q_weight}, {"k_weight", args.k_weight}},
       .fp32 = {{"q_rstd", args.q_rstd}, {"k_rstd", args.k_rstd}, {"cos_sin", args.cos_sin}}}));
  return HeadsSupported("qk_rope_norm", args.q_heads, args.kv_heads, args.d);
}

int64_t WorkspaceBytes(const QkRopeNormGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t) * 2 * args.d);
}

absl::Status CanRun(const QkRopeNormGradArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("qk_rope_norm_grad",
                             {.same = {{"qkv", args.qkv},
                                       {"dqkv", args.dqkv},
                                       {"dq", args.dq},
                                       {"dk", args.dk},
                                       {"q_weight", args.q_weight},
                                       {"k_weight", args.k_weight}},
                              .same_or_fp32 = {{"dq_weight", args.dq_weight}, {"dk_weight", args.dk_weight}},
                              .fp32 = {{"q_rstd", args.q_rstd}, {"k_rstd", args.k_rstd}, {"cos_sin", args.cos_sin}}}));
  return HeadsSupported("qk_rope_norm_grad", args.q_heads, args.kv_heads, args.d);
}

}  // namespace

Kernel<QkRopeNormArgs> CpuQkRopeNorm() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<QkRopeNormGradArgs> CpuQkRopeNormGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
