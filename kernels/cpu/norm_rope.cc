#include "kernels/ops/norm_rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kNormRopeTokenGrain = 4;

// One token's rotation, shared by all of its heads: pair i is elements (first(i), second(i)).
template <typename Dim>
struct Rotation {
  alignas(64) float cos[kHeadDimMax / 2], sin[kHeadDimMax / 2];
  Dim d;
  bool interleaved, turns;

  template <typename Args>
  Rotation(const Args& args, Dim dim, int64_t token) : d(dim), interleaved(args.interleaved), turns(args.cos_sin) {
    if (!turns) return;
    const float* cos_sin = args.cos_sin.template as<float>() + token % args.p * d;
    for (int64_t i = 0; i < d / 2; ++i) {
      cos[i] = cos_sin[2 * i];
      sin[i] = cos_sin[2 * i + 1];
    }
  }

  // x = R x, or with sign = -1 R^T x.
  void Apply(float* __restrict x_D, float sign) const {
    if (!turns) return;
    const int64_t half = d / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = x_D[step * i], b = x_D[step * i + apart], turn = sign * sin[i];
      x_D[step * i] = a * cos[i] - b * turn;
      x_D[step * i + apart] = b * cos[i] + a * turn;
    }
  }
};

// n_D = x / rms(x) or (x - mean(x)) / deviation(x); returns the factor that the (centred) x was multiplied by.
template <typename T, typename Dim>
float Normalize(float* __restrict n_D, const T* __restrict x_D, Dim d, bool layer_norm, float epsilon) {
  const float mean = layer_norm ? SumOfProducts(d, x_D) / static_cast<float>(d) : 0.0f;
  for (int64_t i = 0; i < d; ++i) n_D[i] = ToFloat(x_D[i]) - mean;
  const float square = SumOfProducts(d, n_D, n_D);
  const float rstd = 1.0f / std::sqrt(square / static_cast<float>(d) + epsilon);
  for (int64_t i = 0; i < d; ++i) n_D[i] *= rstd;
  return rstd;
}

template <typename T, typename Dim>
void Token(const NormRopeArgs& args, Dim d, int64_t token) {
  const Rotation<Dim> rotation(args, d, token);
  const T* __restrict weight_D = args.weight.as<T>();
  const T* __restrict bias_D = args.bias.as<T>();
  alignas(64) float n_D[kHeadDimMax];
  for (int64_t head = 0; head < args.heads; ++head) {
    Normalize(n_D, args.x.as<T>() + token * args.x_stride + head * d, d, args.layer_norm, args.epsilon);
    for (int64_t i = 0; i < d; ++i) n_D[i] *= ToFloat(weight_D[i]);
    if (bias_D != nullptr) {
      for (int64_t i = 0; i < d; ++i) n_D[i] += ToFloat(bias_D[i]);
    }
    rotation.Apply(n_D, 1.0f);
    T* __restrict y_D = args.y.as<T>() + (token * args.heads + head) * d;
    for (int64_t i = 0; i < d; ++i) y_D[i] = Rounded<T>(n_D[i]);
  }
}

// With da = R^T dy and g = da weight:  dx = rstd (g - mean(g) - n mean(g n)), without the mean for RMSNorm;
// dweight += da n, dbias += da.
template <typename T, typename Dim>
void TokenGrad(const NormRopeGradArgs& args, Dim d, int64_t token, float* __restrict sum_2D) {
  const Rotation<Dim> rotation(args, d, token);
  const T* __restrict weight_D = args.weight.as<T>();
  alignas(64) float n_D[kHeadDimMax], g_D[kHeadDimMax];
  for (int64_t head = 0; head < args.heads; ++head) {
    const int64_t at = token * args.x_stride + head * d;
    const T* __restrict dy_D = args.dy.as<T>() + (token * args.heads + head) * d;
    const float rstd = Normalize(n_D, args.x.as<T>() + at, d, args.layer_norm, args.epsilon);
    for (int64_t i = 0; i < d; ++i) g_D[i] = ToFloat(dy_D[i]);
    rotation.Apply(g_D, -1.0f);
    for (int64_t i = 0; i < d; ++i) {
      sum_2D[i] += g_D[i] * n_D[i];
      sum_2D[d + i] += g_D[i];
      g_D[i] *= ToFloat(weight_D[i]);
    }
    if (!args.dx) continue;
    const float mean = args.layer_norm ? SumOfProducts(d, g_D) / static_cast<float>(d) : 0.0f;
    const float along = SumOfProducts(d, g_D, n_D) / static_cast<float>(d);
    T* __restrict dx_D = args.dx.as<T>() + at;
    for (int64_t i = 0; i < d; ++i) dx_D[i] = Rounded<T>(rstd * (g_D[i] - mean - n_D[i] * along));
  }
}

void Run(const NormRopeArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    ParallelRanges(ctx.threads, args.t, kNormRopeTokenGrain, [&](int64_t begin, int64_t end, int) {
      WithHeadDim(args.d, [&](auto d) {
        for (int64_t token = begin; token < end; ++token) Token<decltype(element)>(args, d, token);
      });
    });
  });
}

// Workspace: TokenBlocks(T) * 2 D fp32, a block's dweight then its dbias.
void Run(const NormRopeGradArgs& args, const KernelContext& ctx) {
  const int64_t d = args.d, block = TokenBlock(args.t);
  float* partial_N2D = reinterpret_cast<float*>(ctx.workspace);
  WithElements(args.x.dtype, [&](auto element) {
    ParallelFor(ctx.threads, TokenBlocks(args.t), [&](int64_t n) {
      float* sum_2D = partial_N2D + n * 2 * d;
      std::fill(sum_2D, sum_2D + 2 * d, 0.0f);
      WithHeadDim(d, [&](auto dim) {
        for (int64_t i = n * block; i < std::min(args.t, (n + 1) * block); ++i) {
          TokenGrad<decltype(element)>(args, dim, i, sum_2D);
        }
      });
    });
  });
  const auto add = [&](const Operand& out, const float* partial) {
    if (!out) return;
    WithElements(out.dtype, [&](auto element) {
      AddTokenBlocks(out.as<decltype(element)>(), partial, TokenBlocks(args.t), 2 * d, 0, d, args.accumulate_dweight);
    });
  };
  add(args.dweight, partial_N2D);
  add(args.dbias, partial_N2D + d);
}

int64_t WorkspaceBytes(const NormRopeGradArgs& args, const BackendOptions&) {
  return FloatBytes(TokenBlocks(args.t) * 2 * args.d);
}

absl::Status CanRun(const NormRopeArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16(
      "norm_rope",
      {.same = {{"x", args.x}, {"y", args.y}, {"weight", args.weight}, NamedOperand::Optional("bias", args.bias)},
       .fp32 = {{"cos_sin", args.cos_sin}}}));
  return HeadsSupported("norm_rope", args.heads, args.heads, args.d);
}

absl::Status CanRun(const NormRopeGradArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16(
      "norm_rope_grad",
      {.same = {{"x", args.x}, {"dy", args.dy}, {"weight", args.weight}, NamedOperand::Optional("dx", args.dx)},
       .same_or_fp32 = {{"dweight", args.dweight}, {"dbias", args.dbias}},
       .fp32 = {{"cos_sin", args.cos_sin}}}));
  return HeadsSupported("norm_rope_grad", args.heads, args.heads, args.d);
}

}  // namespace

Kernel<NormRopeArgs> CpuNormRope() { return {&CanRun, &NoWorkspace, &Run}; }
Kernel<NormRopeGradArgs> CpuNormRopeGrad() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
