// logits[T,E] = x[T,H] gate[E,H]^T, probs = softmax over the experts in fp32, the K largest of them and their weights,
// counts of choices. Operands in bf16 or fp32.
//
// Bytes: (T + E) H elements of operands, then 8 T E of logits and probabilities, in the same place, and what K passes
// over a row read again from the cache; FLOPs: 2 T H E. Limit: memory; the product reads little but x, because E is
// small. LaunchMatmul computes the product. Then a warp handles a token and a lane every 32nd expert. Passes choose in
// the order (larger probability, lower expert), so the next choice is the first after the last one and nothing has to
// be marked. A block counts its choices in shared memory and adds them, as integers, to the counts of all blocks and to
// the step's loads.
#include <cmath>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/matmul.h"
#include "kernels/ops/router.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kRouterThreads = 256, kRouterWarps = kRouterThreads / kWarpLanes;

struct Routing {
  float *probs, *weights;
  std::int32_t *experts, *counts, *loads;
  std::int64_t t;
  int e, k;
};

// Logits become probabilities. A lane reads only what it has written itself, in both loops and below.
APTM_DEVICE void Softmax(float* p_E, int e, int lane) {
  float highest = -INFINITY, sum = 0;
  for (int i = lane; i < e; i += kWarpLanes) highest = p_E[i] > highest ? p_E[i] : highest;
  for (int by = kWarpLanes / 2; by > 0; by /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, highest, by);
    highest = other > highest ? other : highest;
  }
  for (int i = lane; i < e; i += kWarpLanes) {
    p_E[i] = expf(p_E[i] - highest);
    sum += p_E[i];
  }
  sum = WarpSum(sum);
  for (int i = lane; i < e; i += kWarpLanes) p_E[i] /= sum;
}

// A row is NaN everywhere or nowhere. NaNs rank as ties, so the first experts are chosen.
struct Choice {
  float rank;
  int expert;
};
APTM_DEVICE bool Before(const Choice& a, const Choice& b) {
  return a.rank > b.rank || (a.rank == b.rank && a.expert < b.expert);
}

// The first choice after `last`, in every lane.
APTM_DEVICE Choice Next(const float* p_E, int e, const Choice& last, int lane) {
  Choice best = {-INFINITY, e};
  for (int i = lane; i < e; i += kWarpLanes) {
    const Choice candidate = {p_E[i] == p_E[i] ? p_E[i] : -1.0f, i};
    if (Before(last, candidate) && Before(candidate, best)) best = candidate;
  }
  for (int by = kWarpLanes / 2; by > 0; by /= 2) {
    const Choice other = {__shfl_xor_sync(kAllLanes, best.rank, by), __shfl_xor_sync(kAllLanes, best.expert, by)};
    if (Before(other, best)) best = other;
  }
  return best;
}

__global__ void __launch_bounds__(kRouterThreads) ZeroCounts(std::int32_t* counts, std::int64_t e) {
  ForGroups<1>(e, [&](std::int64_t i) { counts[i] = 0; });
}

__global__ void __launch_bounds__(kRouterThreads) ChooseExperts(Routing r) {
  APTM_DYNAMIC_SHARED(shared);
  int* const counts = reinterpret_cast<int*>(shared);
  const int thread = threadIdx.x, lane = thread % kWarpLanes;
  for (int i = thread; i < r.e; i += kRouterThreads) counts[i] = 0;
  __syncthreads();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRouterWarps;
  for (std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kRouterWarps + thread / kWarpLanes; token < r.t;
       token += step) {
    float* const p_E = r.probs + token * r.e;
    float* const weights_K = r.weights + token * r.k;
    Softmax(p_E, r.e, lane);
    Choice choice = {INFINITY, -1};
    float sum = 0;
    for (int i = 0; i < r.k; ++i) {
      choice = Next(p_E, r.e, choice, lane);
      const float p = __shfl_sync(kAllLanes, lane == choice.expert % kWarpLanes ? p_E[choice.expert] : 0.0f,
                                  choice.expert % kWarpLanes);
      sum += p;
      if (lane != i % kWarpLanes) continue;
      weights_K[i] = p;
      r.experts[token * r.k + i] = choice.expert;
      atomicAdd(counts + choice.expert, 1);
    }
    for (int i = lane; i < r.k; i += kWarpLanes) weights_K[i] /= sum;
  }
  __syncthreads();
  for (int i = thread; i < r.e; i += kRouterThreads) {
    if (counts[i] == 0) continue;
    atomicAdd(r.counts + i, counts[i]);
    if (r.loads != nullptr) atomicAdd(r.loads + i, counts[i]);
  }
}

}  // namespace

void LaunchRouter(const RouterArgs& args, const LaunchContext& context) {
  MatmulArgs logits = {.c = args.probs, .a = args.x, .b = args.gate, .m = args.t, .n = args.e, .k = args.h};
  logits.trans_b = true;
  LaunchMatmul(logits, context);
  Launch(Striding(args.e, kRouterThreads), context, &ZeroCounts, args.counts, args.e);
  LaunchShape shape = Striding(args.t * kWarpLanes, kRouterThreads);
  shape.shared_bytes = static_cast<std::size_t>(args.e) * sizeof(int);
  const Routing routing = {.probs = args.probs.as<float>(),
                           .weights = args.weights.as<float>(),
                           .experts = args.experts,
                           .counts = args.counts,
                           .loads = args.loads,
                           .t = args.t,
                           .e = static_cast<int>(args.e),
                           .k = static_cast<int>(args.k)};
  Launch(shape, context, &ChooseExperts, routing);
}

}  // namespace angel_ptm::cuda
