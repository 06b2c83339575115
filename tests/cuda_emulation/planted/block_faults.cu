// Faults of kernels with barriers, shuffles, shared arrays and nothing newer.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/planted/planted.h"

namespace angel_ptm::emulated {
namespace {

using cuda::kAllLanes;
namespace ptx = cuda::ptx;

constexpr int kThreads = 64, kWarps = 2, kRow = 100;

// y[row] = sum of x[row, 0 .. kRow), with the row's last element doubled; one block a row.
enum RowSums {
  kNoBarrier = 1,
  kOnePartialTooMany,
  kIntoTheNextRow,
  kHalfMask,
  kShuffleByFew,
  kBarrierByFew,
  kTailTooLong,
  kPartialNotWritten,
  kReadsTheOtherBlock,
  kSecondBarrierMissing,
  kReadsItsOutput,
};

__global__ void RowSum(float* y, float* doubled, const float* x, int variant) {
  APTM_SHARED(float, partial, kWarps);
  const int thread = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.x);
  float sum = 0;
  const int end = variant == kTailTooLong ? kRow + 1 : kRow;
  for (int i = thread; i < end; i += kThreads) sum += x[row * kRow + i];
  const unsigned mask = variant == kHalfMask ? 0xffffu : kAllLanes;
  if (variant == kShuffleByFew) {
    if (thread < 40) sum += __shfl_xor_sync(kAllLanes, sum, 0);
  }
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(mask, sum, by);
  if (thread % 32 == 0 && !(variant == kPartialNotWritten && thread == 32)) partial[thread / 32] = sum;
  if (variant != kNoBarrier) __syncthreads();
  float total = 0;
  for (int i = 0; i < (variant == kOnePartialTooMany ? kWarps + 1 : kWarps); ++i) total += partial[i];
  if (variant != kSecondBarrierMissing) __syncthreads();
  if (thread == 0) partial[0] = total;
  __syncthreads();
  if (variant == kBarrierByFew && thread > 50) __syncthreads();
  if (thread != 63) return;
  y[row] = partial[0];
  const int last = variant == kIntoTheNextRow ? kRow : kRow - 1;
  doubled[row * kRow + last] = 2 * x[row * kRow + kRow - 1];
  if (variant == kIntoTheNextRow) doubled[row * kRow] = 0;
  if (variant == kReadsTheOtherBlock) y[row] += y[1 - row] * 0;
  if (variant == kReadsItsOutput) y[row] += doubled[row * kRow + 1] * 0;
}

Outcome RunRowSum(const Schedule& schedule, int variant) {
  std::vector<float> x(2 * kRow);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13);
  if (variant == kTailTooLong) x.back() = 1;
  DeviceArray<float> device_x(x), y(2), doubled(2 * kRow);
  Outcome outcome;
  outcome.findings = Emulate(schedule, [&] {
    cuda::Launch({.grid = {.x = 2}, .block = {.x = kThreads}}, {}, &RowSum, y.data(), doubled.data(), device_x.data(),
                 variant);
  });
  float want[2] = {};
  for (int i = 0; i < 2 * kRow; ++i) want[i / kRow] += x[static_cast<std::size_t>(i)];
  outcome.values_right = y.Get() == std::vector<float>{want[0], want[1]};
  return outcome;
}

// Half of the threads pass values to the other half through a named barrier, lanes pass them to lanes through
// __syncwarp, and all add to a counter.
enum Handing {
  kWrongCount = 1,
  kNoSyncwarp,
  kPlainCounter,
  kRefilledEarly,
  kArriverOnly,
  kArrivesTwice,
};
enum HandingBarriers { kFilled = 1, kEmptied = 3, kWrong = 4 };  // the first of two, one a round

__global__ void Hand(float* y, int* counter, int variant) {
  APTM_SHARED(float, handed, kThreads);
  APTM_SHARED(float, of_warp, kWarps);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 32) {
    for (int round = 0; round < 2; ++round) {
      if (round > 0 && variant != kRefilledEarly) ptx::BarrierSync(kEmptied, kThreads);
      handed[thread] = static_cast<float>(thread + round);
      if (variant == kArriverOnly && round == 1) {
        ptx::BarrierArrive(kWrong, kThreads);
      } else {
        ptx::BarrierArrive(kFilled + round, kThreads);
      }
      if (variant == kArrivesTwice) ptx::BarrierArrive(kFilled + round, kThreads);
    }
  } else {
    float sum = 0;
    for (int round = 0; round < 2; ++round) {
      ptx::BarrierSync(kFilled + round, variant == kWrongCount ? 96 : kThreads);
      sum += handed[thread - 32];
      if (round == 0 && variant != kRefilledEarly) ptx::BarrierArrive(kEmptied, kThreads);
    }
    y[thread - 32] = sum;
  }
  if (thread % 32 == 0) of_warp[thread / 32] = 5;
  if (variant != kNoSyncwarp) __syncwarp();
  if (variant == kPlainCounter) {
    *counter += static_cast<int>(of_warp[thread / 32]);
  } else {
    atomicAdd(counter, static_cast<int>(of_warp[thread / 32]));
  }
}

Outcome RunHand(const Schedule& schedule, int variant) {
  DeviceArray<float> y(32);
  DeviceArray<int> counter(std::vector<int>{0});
  Outcome outcome;
  outcome.findings = Emulate(schedule, [&] {
    cuda::Launch({.grid = {}, .block = {.x = kThreads}}, {}, &Hand, y.data(), counter.data(), variant);
  });
  outcome.values_right = counter.Get()[0] == 5 * kThreads;
  for (int i = 0; i < 32; ++i)
    outcome.values_right &= y.Get()[static_cast<std::size_t>(i)] == static_cast<float>(2 * i + 1);
  return outcome;
}

__global__ void Nothing() {}

template <std::size_t kMost, int kRegisters>
Outcome RunTooMuchShared(const Schedule& schedule, int variant) {
  const std::size_t bytes = variant == 0 ? kMost : kMost + 16;
  const cuda::LaunchShape shape = {.grid = {}, .block = {.x = 32}, .shared_bytes = bytes, .registers = kRegisters};
  return {Emulate(schedule, [&] { cuda::Launch(shape, {}, &Nothing); }), true};
}

__global__ void OneOfAnArray() {
  APTM_SHARED(int, array, 4);
  array[0] = 0;
}

// 48 KB are there unasked, of which the array takes some.
Outcome RunUnaskedShared(const Schedule& schedule, int variant) {
  const LaunchShape shape = {
      .grid = {1, 1, 1}, .block = {1, 1, 1}, .shared_bytes = (47 << 10) + 16, .asks_for_shared = variant == 0};
  return {Emulate(schedule, [&] { Run(shape, &OneOfAnArray); }), true};
}

// Four neighbours at a time, from the first or the second.
__global__ void CopyFour(float* to, const float* from) {
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
}

Outcome RunCopyFour(const Schedule& schedule, int variant) {
  DeviceArray<float> to(4), from(std::vector<float>(8, 1.0f));
  return {Emulate(schedule,
                  [&] {
                    cuda::Launch({.grid = {}, .block = {}}, {}, &CopyFour, to.data(),
                                 static_cast<const float*>(from.data()) + variant);
                  }),
          true};
}

}  // namespace

const std::vector<PlantedFault>& BlockFaults() {
  static const std::vector<PlantedFault> faults = {
      {"no barrier after partial sums", &RunRowSum, kNoBarrier, Fault::kRace, {}},
      {"no barrier before partial sums are overwritten", &RunRowSum, kSecondBarrierMissing, Fault::kRace, {}},
      {"one partial sum too many", &RunRowSum, kOnePartialTooMany, Fault::kOutOfBounds, {}},
      {"a partial sum that was not written", &RunRowSum, kPartialNotWritten, Fault::kUninitialised, {}},
      {"one element into the next row", &RunRowSum, kIntoTheNextRow, Fault::kCrossBlock, {}},
      {"a tail one element too long", &RunRowSum, kTailTooLong, Fault::kOutOfBounds, {}},
      {"a shuffle mask of half a warp", &RunRowSum, kHalfMask, Fault::kWarp, {}},
      {"a shuffle that some lanes skip", &RunRowSum, kShuffleByFew, Fault::kDeadlock, {}},
      {"a barrier in a branch", &RunRowSum, kBarrierByFew, Fault::kBarrier, {}},
      {"a block that reads another's result", &RunRowSum, kReadsTheOtherBlock, Fault::kUninitialised, {}},
      {"an output read before it is written", &RunRowSum, kReadsItsOutput, Fault::kUninitialised, {}},
      {"a named barrier for too many", &RunHand, kWrongCount, Fault::kBarrier, {}},
      {"two arrivals of a thread at a named barrier", &RunHand, kArrivesTwice, Fault::kBarrier, {}},
      {"an arrival at the wrong named barrier", &RunHand, kArriverOnly, Fault::kDeadlock, {}},
      {"no __syncwarp between lanes", &RunHand, kNoSyncwarp, Fault::kRace, {}},
      {"a counter without atomics", &RunHand, kPlainCounter, Fault::kRace, {}},
      {"a buffer filled again too early", &RunHand, kRefilledEarly, Fault::kRace, {}},
      {"more shared memory than there is", &RunTooMuchShared<227 << 10, 128>, 1, Fault::kLaunch, {}},
      {"more shared memory than sm_80 has", &RunTooMuchShared<163 << 10, 0>, 1, Fault::kLaunch, {}},
      {"shared memory that was not asked for", &RunUnaskedShared, 1, Fault::kLaunch, {}},
      {"a wide access that is not aligned", &RunCopyFour, 1, Fault::kAlignment, {}},
  };
  return faults;
}

}  // namespace angel_ptm::emulated
