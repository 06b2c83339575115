// loss += values[0] + values[1] + ... in double, in this order; first += the sum of the first first_n of them;
// weight += batch_weight.
//
// Bytes: 4 n, FLOPs: n, one after the other. Limit: the latency of a double addition, about n * 4 ns, where n is a few
// thousand tokens. One block: all threads load, thread 0 adds.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/loss_sum.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kLossSumThreads = 256;

__global__ void __launch_bounds__(kLossSumThreads)
    LossSum(double* loss, double* first_part, double* weight, const float* values, const float* batch_weight,
            std::int64_t n, std::int64_t first_n) {
  APTM_SHARED(float, some, kLossSumThreads);
  double sum = 0, sum_first = 0;  // of thread 0
  for (std::int64_t first = 0; first < n; first += kLossSumThreads) {
    const std::int64_t i = first + threadIdx.x;
    if (i < n) some[threadIdx.x] = values[i];
    __syncthreads();
    if (threadIdx.x == 0) {
      const int count = n - first < kLossSumThreads ? static_cast<int>(n - first) : kLossSumThreads;
      for (int j = 0; j < count; ++j) {
        sum += static_cast<double>(some[j]);
        if (first + j + 1 == first_n) sum_first = sum;
      }
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  *loss += sum;
  *first_part += sum_first;
  *weight += static_cast<double>(*batch_weight);
}

}  // namespace

void LaunchLossSum(const LossSumArgs& args, const LaunchContext& context) {
  Launch({.grid = {}, .block = {.x = kLossSumThreads}}, context, &LossSum, args.loss, args.first, args.weight,
         args.values.as<float>(), args.batch_weight.as<float>(), args.n, args.first_n);
}

}  // namespace angel_ptm::cuda
