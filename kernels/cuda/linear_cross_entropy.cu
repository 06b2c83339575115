// Losses of a linear layer and their gradients in chunks of C tokens (kernels/ops/linear_cross_entropy.h), with
// operands in bf16 or fp32:
//   logits[C,V] = x weight^T,  loss = log(sum of exp(logits)) - logit of the target,  dlogits = softmax - one-hot,
//   dx = dlogits weight,  dweight (+)= dlogits^T x.
//
// FLOPs: 6 T H V, in the tiles of matmul_tiles.cuh or fma_tiles.cuh, sums in fp32. Bytes: V H elements for each product
// and chunk; logits are written and read twice, 14 C V with gradients in bf16, 16 C V in fp32. Limit: the tensor cores,
// or the FMA units; what goes through memory takes 7 / H of an element's time. A block handles a token: it goes over
// its logits once for maximum and sum together, and once more to write dlogits, in the operands' type, from the first
// byte of the logits on. Workspace: C V fp32.
#include <cfloat>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/ops/linear_cross_entropy.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kLinearCrossEntropyThreads = 512, kAtOnce = 4,
              kLinearCrossEntropyWarps = kLinearCrossEntropyThreads / kWarpLanes;

// The largest value of a block, in every thread.
APTM_DEVICE float BlockMax(float x) {
  APTM_SHARED(float, warps, kLinearCrossEntropyWarps);
  for (int by = kWarpLanes / 2; by > 0; by /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, x, by);
    x = other > x ? other : x;
  }
  __syncthreads();  // all threads have read the previous contents
  if (threadIdx.x % kWarpLanes == 0) warps[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  for (int i = 0; i < kLinearCrossEntropyWarps; ++i) x = warps[i] > x ? warps[i] : x;
  return x;
}

struct Softmax {
  float highest, sum;  // sum: of the exponentials of the differences to the highest
};

// The result is in every thread. A NaN among the logits makes the sum NaN.
APTM_DEVICE Softmax SoftmaxOf(const float* logits_V, std::int64_t v) {
  float highest = -FLT_MAX, sum = 0;
  for (std::int64_t first = 0; first < v; first += kLinearCrossEntropyThreads * kAtOnce) {
    float x[kAtOnce], next = highest;
    APTM_UNROLL for (int j = 0; j < kAtOnce; ++j) {
      const std::int64_t i = first + j * kLinearCrossEntropyThreads + threadIdx.x;
      x[j] = i < v ? logits_V[i] : -INFINITY;
      next = x[j] > next ? x[j] : next;
    }
    sum *= expf(highest - next);
    highest = next;
    APTM_UNROLL for (int j = 0; j < kAtOnce; ++j) sum += expf(x[j] - highest);
  }
  const float of_all = BlockMax(highest);
  return {of_all, BlockSum<kLinearCrossEntropyThreads>(sum * expf(highest - of_all))};
}

// Computes a token's loss; its logits become gradients of the logits as elements of T, from their first byte on.
template <typename T>
__global__ void __launch_bounds__(kLinearCrossEntropyThreads)
    Losses(float* token_loss, float* logits, const std::int32_t* targets, std::int64_t v, bool want_gradient) {
  const std::int64_t token = blockIdx.x;
  float* const logits_V = logits + token * v;
  T* const dlogits_V = reinterpret_cast<T*>(logits_V);
  const std::int32_t target = targets[token];
  const bool has_target = target >= 0;
  Softmax softmax = {0, 1};
  if (has_target) softmax = SoftmaxOf(logits_V, v);
  if (threadIdx.x == 0) {
    token_loss[token] = has_target ? logf(softmax.sum) + (softmax.highest - logits_V[target]) : 0.0f;
  }
  if (!want_gradient) return;
  const float scale = 1.0f / softmax.sum;
  for (std::int64_t first = 0; first < v; first += kLinearCrossEntropyThreads * kAtOnce) {
    float x[kAtOnce];
    APTM_UNROLL for (int j = 0; j < kAtOnce; ++j) {
      const std::int64_t i = first + j * kLinearCrossEntropyThreads + threadIdx.x;
      x[j] = has_target && i < v ? expf(logits_V[i] - softmax.highest) * scale : 0.0f;
      if (i == target) x[j] -= 1.0f;
    }
    __syncthreads();  // the writes below reach no further than what all threads have read
    APTM_UNROLL for (int j = 0; j < kAtOnce; ++j) {
      const std::int64_t i = first + j * kLinearCrossEntropyThreads + threadIdx.x;
      if (i < v) StoreRounded(dlogits_V + i, x[j]);
    }
  }
}

std::int64_t ChunkTokens(const LinearCrossEntropyArgs& args) {
  return args.chunk_tokens < args.t ? args.chunk_tokens : args.t;
}

}  // namespace

std::int64_t WorkspaceBytes(const LinearCrossEntropyArgs& args) {
  return ChunkTokens(args) * args.v * static_cast<std::int64_t>(sizeof(float));
}

namespace {

template <typename T>
void LaunchChunks(const LinearCrossEntropyArgs& args, const LaunchContext& context) {
  const std::int64_t h = args.h, v = args.v, chunk = ChunkTokens(args);
  const Operand logits = {context.workspace, DType::kFloat32};
  const Matrix<T> weight = MatrixOf<T>(args.weight, v, h);
  for (std::int64_t first = 0; first < args.t; first += chunk) {
    const std::int64_t c = chunk < args.t - first ? chunk : args.t - first;
    const Matrix<T> x = MatrixOf<T>({args.x.as<T>() + first * h, args.x.dtype}, c, h);
    LaunchProduct(ResultOf(logits, c, v, false), x, false, weight, true, h, context);
    Launch({.grid = {.x = static_cast<unsigned>(c)}, .block = {.x = kLinearCrossEntropyThreads}}, context, &Losses<T>,
           args.token_loss.as<float>() + first, logits.as<float>(), args.targets + first, v,
           static_cast<bool>(args.dx) || static_cast<bool>(args.dweight));
    const Matrix<T> dlogits = {.data = logits.as<T>(),
                               .rows = c,
                               .columns = v,
                               .stride = v * static_cast<std::int64_t>(sizeof(float) / sizeof(T)),
                               .is_aligned = v % kChunkOf<T> == 0};
    if (args.dx) {
      LaunchProduct(ResultOf(At(args.dx, first * h), c, h, false), dlogits, false, weight, false, v, context);
    }
    if (!args.dweight) continue;
    LaunchProduct(ResultOf(args.dweight, v, h, args.accumulate_dweight || first > 0), dlogits, true, x, false, c,
                  context);
  }
}

}  // namespace

void LaunchLinearCrossEntropy(const LinearCrossEntropyArgs& args, const LaunchContext& context) {
  WithElements(args.x.dtype, [&](auto element) { LaunchChunks<decltype(element)>(args, context); });
}

}  // namespace angel_ptm::cuda
