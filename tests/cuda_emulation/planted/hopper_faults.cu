// Faults of kernels with mbarriers, TMA, wgmma and setmaxnreg.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/planted/planted.h"

namespace angel_ptm::emulated {
namespace {

namespace ptx = cuda::ptx;
using cuda::TensorMap;

constexpr int kTile = 64, kStages = 3, kSteps = 8, kK = kTile * kSteps;
constexpr unsigned kThreads = 256;
constexpr std::uint32_t kTileBytes = kTile * kTile * 2, kStageBytes = 2 * kTileBytes;
constexpr std::size_t kSharedBytes = kStages * kStageBytes + kTileBytes + 128 + 1024;

enum Faults {
  kNoInitFence = 1,
  kFirstParity,
  kTooManyBytes,
  kBytesOfAOnly,
  kReuseNotAwaited,
  kParityNeverTurns,
  kFirstFullNotAwaited,
  kOneLaneWaits,
  kReleasedBeforeWait,
  kNoWgmmaWait,
  kReadBeforeWait,
  kNoWgmmaFence,
  kStrideHalved,
  kOtherSwizzle,
  kDescriptorByLane,
  kSumsNotCleared,
  kCoordinatesSwapped,
  kRingNotAligned,
  kStoreNotSwizzled,
  kNoProxyFence,
  kNoBarrierBeforeStore,
  kStagingReused,
  kTooManyRegisters,
  kTooManyArrivals,
  kLoadNobodyAwaits,
  kMapTooLarge,
};

struct Ring {
  std::uint32_t stages, staging, full, empty;  // shared addresses
};

APTM_DEVICE Ring Layout(int variant) {
  APTM_DYNAMIC_SHARED(shared);
  std::uint32_t at = ptx::SharedAddress(shared);
  at += (1024 - at % 1024) % 1024;
  if (variant == kRingNotAligned) at -= 128;
  const std::uint32_t staging = at + kStages * kStageBytes, full = staging + kTileBytes;
  return {at, staging, full, full + kStages * 8};
}

APTM_DEVICE void Produce(const Ring& ring, const TensorMap* a, const TensorMap* b, int variant) {
  const int steps = variant == kLoadNobodyAwaits ? kSteps + 1 : kSteps;
  for (int step = 0; step < steps; ++step) {
    const std::uint32_t stage = step % kStages, turn = step / kStages % 2;
    const std::uint32_t full = ring.full + stage * 8, to = ring.stages + stage * kStageBytes;
    const std::uint32_t parity = variant == kFirstParity ? turn : turn ^ 1;
    if (variant != kReuseNotAwaited || step != kStages) ptx::MbarrierWait(ring.empty + stage * 8, parity);
    const std::uint32_t bytes = variant == kTooManyBytes   ? kStageBytes + 16
                                : variant == kBytesOfAOnly ? kTileBytes
                                                           : kStageBytes;
    ptx::MbarrierArriveExpect(full, bytes);
    if (variant == kCoordinatesSwapped) {
      ptx::TensorLoad2d(to, a, full, 0, step * kTile);
    } else {
      ptx::TensorLoad2d(to, a, full, step * kTile, 0);
    }
    ptx::TensorLoad2d(to + kTileBytes, b, full, step * kTile, 0);
  }
}

APTM_DEVICE void MultiplyStage(float (&d)[32], std::uint32_t stage, bool first, int variant) {
  if (variant != kNoWgmmaFence) ptx::WgmmaFence();
  for (std::uint32_t k = 0; k < kTile / 16; ++k) {
    std::uint64_t a = ptx::WgmmaDescriptor(stage + k * 32, 16, variant == kStrideHalved ? 512 : 1024);
    if (variant == kOtherSwizzle) a ^= std::uint64_t{3} << 62;
    if (variant == kDescriptorByLane && threadIdx.x % 32 == 5) a += 1;
    const std::uint64_t b = ptx::WgmmaDescriptor(stage + kTileBytes + k * 32, 16, 1024);
    ptx::WgmmaM64N64<0, 0>(d, a, b, variant == kSumsNotCleared || !first || k > 0);
  }
  ptx::WgmmaCommit();
}

APTM_DEVICE void Store(const float (&d)[32], const Ring& ring, const TensorMap* c, int variant) {
  const int thread = static_cast<int>(threadIdx.x) - 128, lane = thread % 32, warp = thread / 32;
  APTM_DYNAMIC_SHARED(shared);
  unsigned char* const staging = shared + (ring.staging - ptx::SharedAddress(shared));
  for (int i = 0; i < 32; i += 2) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = (i / 4 * 8 + lane % 4 * 2) * 2;
    const int swizzled = variant == kStoreNotSwizzled ? column : column ^ row % 8 * 16;
    const std::uint32_t pair = cuda::Bf16Bits(d[i]) | static_cast<std::uint32_t>(cuda::Bf16Bits(d[i + 1])) << 16;
    *reinterpret_cast<std::uint32_t*>(staging + row * 128 + swizzled) = pair;
  }
  if (variant != kNoProxyFence) ptx::FenceProxyAsync();
  if (variant != kNoBarrierBeforeStore) ptx::BarrierSync(1, 128);
  if (thread == 0) {
    ptx::TensorStore2d(c, ring.staging, 0, 0);
    ptx::BulkCommit();
    if (variant != kStagingReused) ptx::BulkWaitRead<0>();
  }
  ptx::BarrierSync(1, 128);
  reinterpret_cast<std::uint16_t*>(staging)[thread] = 0;
}

APTM_DEVICE void Consume(const Ring& ring, const TensorMap* c, int variant) {
  float d[32];
  for (int step = 0; step < kSteps; ++step) {
    const std::uint32_t stage = step % kStages, turn = variant == kParityNeverTurns ? 0 : step / kStages % 2;
    const bool waits =
        (variant != kFirstFullNotAwaited || step > 0) && (variant != kOneLaneWaits || threadIdx.x % 32 == 0);
    if (waits) ptx::MbarrierWait(ring.full + stage * 8, turn);
    MultiplyStage(d, ring.stages + stage * kStageBytes, step == 0, variant);
    const bool releases = threadIdx.x == 128 || variant == kTooManyArrivals;
    if (variant == kReleasedBeforeWait && releases) ptx::MbarrierArrive(ring.empty + stage * 8);
    const float early = variant == kReadBeforeWait ? d[3] : 0;
    if (variant != kNoWgmmaWait) ptx::WgmmaWait<0>();
    if (early != 0) d[3] = early;
    ptx::BarrierSync(1, 128);
    if (variant != kReleasedBeforeWait && releases) ptx::MbarrierArrive(ring.empty + stage * 8);
  }
  Store(d, ring, c, variant);
}

// c[64,64] = a[64,K] b[64,K]^T. In one warpgroup the first thread loads; another warpgroup multiplies and stores.
__global__ void Product(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                        const __grid_constant__ TensorMap c, int variant) {
  const Ring ring = Layout(variant);
  if (threadIdx.x == 0) {
    for (std::uint32_t i = 0; i < kStages; ++i) {
      ptx::MbarrierInit(ring.full + i * 8, 1);
      ptx::MbarrierInit(ring.empty + i * 8, 1);
    }
    if (variant != kNoInitFence) ptx::FenceMbarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::LowerRegisters<40>();
    if (threadIdx.x == 0) Produce(ring, &a, &b, variant);
  } else {
    if (variant == kTooManyRegisters) {
      ptx::RaiseRegisters<240>();
    } else {
      ptx::RaiseRegisters<216>();
    }
    Consume(ring, &c, variant);
  }
}

TensorMap MapOf(BFloat16* data, std::uint64_t columns, std::uint64_t rows) {
  const std::uint64_t extent[] = {columns, rows}, stride[] = {columns * 2};
  const std::uint32_t box[] = {kTile, kTile};
  TensorMap map;
  EncodeTensorMap(&map, data, 2, 2, extent, stride, box);
  return map;
}

Outcome RunProduct(const Schedule& schedule, int variant) {
  std::vector<BFloat16> a(kTile * kK), b(kTile * kK);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = ToBFloat16(static_cast<float>(i * 7 % 5) - 2);
    b[i] = ToBFloat16(static_cast<float>(i * 5 % 3) - 1);
  }
  DeviceArray<BFloat16> device_a(a), device_b(b), c(kTile * kTile);
  Outcome outcome;
  outcome.findings = Emulate(schedule, [&] {
    const std::uint64_t rows = variant == kMapTooLarge ? kTile + 1 : kTile;
    cuda::Launch({.grid = {}, .block = {.x = kThreads}, .shared_bytes = kSharedBytes, .registers = 128}, {}, &Product,
                 MapOf(device_a.data(), kK, kTile), MapOf(device_b.data(), kK, kTile),
                 MapOf(c.data(), variant == kMapTooLarge ? kTile + 8 : kTile, rows), variant);
  });
  const std::vector<BFloat16> got = c.Get();
  outcome.values_right = true;
  for (std::size_t i = 0; i < kTile; ++i) {
    for (std::size_t j = 0; j < kTile; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < kK; ++k) sum += ToFloat(a[i * kK + k]) * ToFloat(b[j * kK + k]);
      outcome.values_right &= got[i * kTile + j] == ToBFloat16(sum);
    }
  }
  return outcome;
}

}  // namespace

const std::vector<PlantedFault>& HopperFaults() {
  static const std::vector<PlantedFault> faults = {
      {"no fence after the mbarriers' init", &RunProduct, kNoInitFence, Fault::kMbarrier, {}},
      {"the producer's first parity", &RunProduct, kFirstParity, Fault::kDeadlock, {}},
      {"more bytes expected than come", &RunProduct, kTooManyBytes, Fault::kDeadlock, {}},
      {"bytes of one operand only", &RunProduct, kBytesOfAOnly, Fault::kRace, Fault::kDeadlock},
      {"the first reuse of a stage not waited for", &RunProduct, kReuseNotAwaited, Fault::kRace, Fault::kMbarrier},
      {"a parity that never turns", &RunProduct, kParityNeverTurns, Fault::kRace, Fault::kDeadlock},
      {"the first full stage not waited for", &RunProduct, kFirstFullNotAwaited, Fault::kRace, Fault::kUninitialised},
      {"one lane waits for its warp", &RunProduct, kOneLaneWaits, Fault::kRace, Fault::kUninitialised},
      {"a stage released before wgmma has read it", &RunProduct, kReleasedBeforeWait, Fault::kRace, Fault::kDeadlock},
      {"accumulators read before the wait", &RunProduct, kReadBeforeWait, Fault::kWgmma, {}},
      {"no wait for wgmma", &RunProduct, kNoWgmmaWait, Fault::kWgmma, {}},
      {"no wgmma.fence", &RunProduct, kNoWgmmaFence, Fault::kWgmma, {}},
      {"half the stride in a descriptor", &RunProduct, kStrideHalved, {}, {}},
      {"another swizzle in a descriptor", &RunProduct, kOtherSwizzle, Fault::kWgmma, {}},
      {"a descriptor that differs by lane", &RunProduct, kDescriptorByLane, Fault::kWgmma, {}},
      {"sums that do not start at zero", &RunProduct, kSumsNotCleared, {}, {}},
      {"coordinates of a box swapped", &RunProduct, kCoordinatesSwapped, {}, {}},
      {"a ring between swizzle atoms", &RunProduct, kRingNotAligned, Fault::kAlignment, Fault::kOutOfBounds},
      {"results staged without the swizzle", &RunProduct, kStoreNotSwizzled, {}, {}},
      {"no fence.proxy.async before a tensor store", &RunProduct, kNoProxyFence, Fault::kProxy, {}},
      {"no barrier before a tensor store", &RunProduct, kNoBarrierBeforeStore, Fault::kRace, Fault::kUninitialised},
      {"staging used again before it was read", &RunProduct, kStagingReused, Fault::kRace, {}},
      {"more registers than the block has", &RunProduct, kTooManyRegisters, Fault::kDeadlock, {}},
      {"an arrival by every thread", &RunProduct, kTooManyArrivals, Fault::kMbarrier, {}},
      {"a load that nobody waits for", &RunProduct, kLoadNobodyAwaits, Fault::kTensorCopy, Fault::kMbarrier},
      {"a tensor map larger than its array", &RunProduct, kMapTooLarge, Fault::kOutOfBounds, {}},
  };
  return faults;
}

}  // namespace angel_ptm::emulated
