#include "benchmarks/matrix_peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace angel_ptm {
namespace {

// Chains of multiply-adds that do not wait for each other: more than an addition's latency times the instructions begun
// at a time. Each starts at a number of its own, or the compiler would compute one for all.
constexpr int kChains = 12;

using Vector4 = float __attribute__((vector_size(16)));

float MultiplyThenAdd(int64_t steps) {
  Vector4 sum[kChains];
  const float x = 1.0f + static_cast<float>(steps) * 1e-30f;
  const Vector4 a = {x, x, x, x}, b = {x, x, x, x};
  for (int i = 0; i < kChains; ++i) sum[i] = a * static_cast<float>(i);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
  }
  Vector4 total = {};
  for (const Vector4& s : sum) total += s;
  return total[0] + total[1] + total[2] + total[3];
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) float Fma256(int64_t steps) {
  __m256 sum[kChains];
  const __m256 a = _mm256_set1_ps(1.0f + static_cast<float>(steps) * 1e-30f);
  for (int i = 0; i < kChains; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm256_fmadd_ps(sum[i], a, a);
  }
  __m256 total = sum[0];
  for (int i = 1; i < kChains; ++i) total = _mm256_add_ps(total, sum[i]);
  return total[0];
}

__attribute__((target("avx512f"))) float Fma512(int64_t steps) {
  __m512 sum[kChains];
  const __m512 a = _mm512_set1_ps(1.0f + static_cast<float>(steps) * 1e-30f);
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], a, a);
  }
  __m512 total = sum[0];
  for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, sum[i]);
  return total[0];
}

__attribute__((target("avx512f,avx512bf16"))) float PairProducts512(int64_t steps) {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80 + static_cast<int>(steps & 1));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
  }
  __m512 total = sum[0];
  for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, sum[i]);
  return total[0];
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Of numbers as products have them: of zeros, which registers hold at first, some processors do twice as many.
__attribute__((target("amx-tile,amx-bf16"))) float TileProducts(int64_t steps) {
  static constexpr TileConfig kConfig;
  float out[256];
  alignas(64) uint16_t numbers[4][512];
  uint32_t state = static_cast<uint32_t>(steps);
  for (auto& tile : numbers) {
    for (uint16_t& x : tile) {
      state = state * 1664525u + 1013904223u;
      x = static_cast<uint16_t>((state >> 31) << 15 | 0x3f00 | (state >> 16 & 0x7f));  // +-[0.5, 1)
    }
  }
  _tile_loadconfig(&kConfig);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, numbers[0], 64);
  _tile_loadd(5, numbers[1], 64);
  _tile_loadd(6, numbers[2], 64);
  _tile_loadd(7, numbers[3], 64);
  for (int64_t step = 0; step < steps; ++step) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, out, 64);
  _tile_release();
  return out[0];
}

#endif

}  // namespace

std::vector<MatrixInstruction> MatrixInstructions(std::string_view isa) {
#if defined(__x86_64__)
  const MatrixInstruction fma512 = {"FMA of 16", false, 2.0 * 16 * kChains, &Fma512};
  const MatrixInstruction pairs512 = {"vdpbf16ps", true, 4.0 * 16 * kChains, &PairProducts512};
  if (isa == "amx") return {fma512, pairs512, {"AMX", true, 4 * 2.0 * 16 * 16 * 32, &TileProducts}};
  if (isa == "avx512-bf16") return {fma512, pairs512};
  if (isa == "avx512") return {fma512};
  if (isa == "x86-64-v3") return {{"FMA of 8", false, 2.0 * 8 * kChains, &Fma256}};
#endif
  return {{"multiply and add of 4", false, 2.0 * 4 * kChains, &MultiplyThenAdd}};
}

}  // namespace angel_ptm
