// Faults of kernels with cp.async, ldmatrix and mma.sync.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/planted/planted.h"

namespace angel_ptm::emulated {
namespace {

namespace ptx = cuda::ptx;

constexpr int kThreads = 64, kM = 16, kN = 16, kSteps = 5, kDepth = 16, kK = kSteps * kDepth;

enum Faults {
  kWaitTooWeak = 1,
  kNoBarrierAfterWait,
  kNoBarrierBeforeRefill,
  kPitchNotAligned,
  kOrderOfA,
  kSwappedFragment,
  kNoWaitAtTheEnd,
  kTailNotMasked,
  kOnePastTheDiagonal,
  kOtherStage,
};

// c[16,16] = a[16,K] b[16,K]^T below the diagonal, zero above. Two warps with 8 columns each, and a ring of two stages.
__global__ void Product(float* c, const BFloat16* a, const BFloat16* b, int variant) {
  APTM_SHARED(uint4, storage, 4 * kM * 3);
  const int pitch = variant == kPitchNotAligned ? 20 : 24;
  auto* const ring = reinterpret_cast<std::uint16_t*>(storage);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const auto load = [&](int step) {
    if (step < kSteps || variant == kTailNotMasked) {
      const BFloat16* const from = thread < 32 ? a : b;
      const int row = lane / 2, column = lane % 2 * 8;
      std::uint16_t* const to = ring + (step % 2 * 2 + warp) * kM * 24 + row * pitch + column;
      ptx::CopyAsync16(ptx::SharedAddress(to), from + row * kK + step * kDepth + column, true);
    }
    ptx::CopyAsyncCommit();
  };
  float d[4] = {};
  load(0);
  for (int step = 0; step < kSteps; ++step) {
    load(step + 1);
    if (variant == kWaitTooWeak) {
      ptx::CopyAsyncWait<2>();
    } else if (variant != kNoWaitAtTheEnd || step < kSteps - 1) {
      ptx::CopyAsyncWait<1>();
    }
    if (variant != kNoBarrierAfterWait) __syncthreads();
    const int stage = variant == kOtherStage ? (step + 1) % 2 : step % 2;
    const std::uint16_t* const a_tile = ring + stage * 2 * kM * 24;
    const std::uint16_t* const b_tile = a_tile + kM * 24;
    std::uint32_t fragment[4], columns[4];
    ptx::LoadMatrix4(fragment, ptx::SharedAddress(a_tile + lane % 16 * pitch + lane / 16 * 8));
    const int b_row = variant == kOrderOfA ? lane % 16 : lane / 16 * 8 + lane % 8;
    const int b_column = variant == kOrderOfA ? lane / 16 * 8 : lane / 8 % 2 * 8;
    ptx::LoadMatrix4(columns, ptx::SharedAddress(b_tile + b_row * pitch + b_column));
    const std::uint32_t mine[2] = {columns[2 * warp], columns[2 * warp + 1]};
    const std::uint32_t swapped[4] = {fragment[0], fragment[2], fragment[1], fragment[3]};
    ptx::MultiplyBf16(d, variant == kSwappedFragment ? swapped : fragment, mine);
    if (variant != kNoBarrierBeforeRefill) __syncthreads();
  }
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = warp * 8 + lane % 4 * 2 + e % 2;
    const bool under = variant == kOnePastTheDiagonal ? column <= row + 1 : column <= row;
    c[row * kN + column] = under ? d[e] : 0;
  }
}

Outcome RunProduct(const Schedule& schedule, int variant) {
  std::vector<BFloat16> a(kM * kK), b(kN * kK);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = ToBFloat16(static_cast<float>(i * 7 % 11) - 5);
    b[i] = ToBFloat16(static_cast<float>(i * 5 % 13) - 6);
  }
  DeviceArray<BFloat16> device_a(a), device_b(b);
  DeviceArray<float> c(kM * kN);
  Outcome outcome;
  outcome.findings = Emulate(schedule, [&] {
    cuda::Launch({.grid = {}, .block = {.x = kThreads}}, {}, &Product, c.data(), device_a.data(), device_b.data(),
                 variant);
  });
  const std::vector<float> got = c.Get();
  outcome.values_right = true;
  for (std::size_t i = 0; i < kM; ++i) {
    for (std::size_t j = 0; j < kN; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < kK && j <= i; ++k) sum += ToFloat(a[i * kK + k]) * ToFloat(b[j * kK + k]);
      outcome.values_right &= got[i * kN + j] == sum;
    }
  }
  return outcome;
}

}  // namespace

const std::vector<PlantedFault>& PipelineFaults() {
  static const std::vector<PlantedFault> faults = {
      {"a wait for cp.async that is too weak", &RunProduct, kWaitTooWeak, Fault::kRace, {}},
      {"no barrier after the wait for cp.async", &RunProduct, kNoBarrierAfterWait, Fault::kRace, {}},
      {"no barrier before a stage is filled again", &RunProduct, kNoBarrierBeforeRefill, Fault::kRace, {}},
      {"rows that ldmatrix and cp.async do not take", &RunProduct, kPitchNotAligned, Fault::kAlignment, {}},
      {"a step that reads the other stage", &RunProduct, kOtherStage, Fault::kRace, {}},
      {"no wait for the last cp.async", &RunProduct, kNoWaitAtTheEnd, Fault::kRace, {}},
      {"a copy behind the last step", &RunProduct, kTailNotMasked, Fault::kOutOfBounds, {}},
      {"ldmatrix in a's order for b", &RunProduct, kOrderOfA, {}, {}},
      {"two registers of a fragment swapped", &RunProduct, kSwappedFragment, {}, {}},
      {"a causal bound one too far", &RunProduct, kOnePastTheDiagonal, {}, {}},
  };
  return faults;
}

}  // namespace angel_ptm::emulated
