// Faults of blocks that read each other's shared memory.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/planted/planted.h"

namespace angel_ptm::emulated {
namespace {

namespace ptx = cuda::ptx;

constexpr unsigned kThreads = 32;
enum Faults { kNoSyncBefore = 1, kNoSyncAfter, kBlockOutside, kOneBlockSyncs };

// y[block] = the other block's lane sums, two blocks in a cluster.
__global__ void Exchange(float* y, int variant) {
  APTM_SHARED(float, values, kThreads);
  const int lane = static_cast<int>(threadIdx.x), rank = ptx::ClusterRank();
  values[lane] = static_cast<float>(lane + 100 * rank);
  if (variant != kNoSyncBefore) ptx::ClusterSync();
  const int other = variant == kBlockOutside ? 2 : rank ^ 1;
  y[rank * 32 + lane] = ptx::LoadShared(ptx::MapShared(ptx::SharedAddress(values + lane), other));
  if (variant == kNoSyncAfter) {
    if (rank == 1) values[lane] = 0;
  } else if (variant != kOneBlockSyncs || rank == 0) {
    ptx::ClusterSync();
  }
}

Outcome RunExchange(const Schedule& schedule, int variant) {
  DeviceArray<float> y(64);
  Outcome outcome;
  outcome.findings = Emulate(schedule, [&] {
    cuda::Launch({.grid = {.x = 2}, .block = {.x = kThreads}, .cluster = 2}, {}, &Exchange, y.data(), variant);
  });
  outcome.values_right = true;
  for (std::size_t i = 0; i < 64; ++i)
    outcome.values_right &= y.Get()[i] == static_cast<float>(i % 32 + (i < 32 ? 100 : 0));
  return outcome;
}

}  // namespace

const std::vector<PlantedFault>& ClusterFaults() {
  static const std::vector<PlantedFault> faults = {
      {"a read of another block before its write", &RunExchange, kNoSyncBefore, Fault::kRace, Fault::kUninitialised},
      {"a write after another block's read", &RunExchange, kNoSyncAfter, Fault::kRace, Fault::kCluster},
      {"a block outside of the cluster", &RunExchange, kBlockOutside, Fault::kCluster, {}},
      {"one block waits for the cluster alone", &RunExchange, kOneBlockSyncs, Fault::kDeadlock, Fault::kCluster},
  };
  return faults;
}

}  // namespace angel_ptm::emulated
