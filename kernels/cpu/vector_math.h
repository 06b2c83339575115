// Elementary functions as branch-free fp32 arithmetic, so that loops over them vectorise (calls of libm do not without
// -ffast-math). They use std::fma explicitly, so a result does not depend on the vector width the compiler chose.
#ifndef ANGEL_PTM_KERNELS_CPU_VECTOR_MATH_H_
#define ANGEL_PTM_KERNELS_CPU_VECTOR_MATH_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace angel_ptm {

// (e^r - 1 - r) / r^2, by interpolation at the Chebyshev points of [-ln2/2, ln2/2].
inline float ExpRemainder(float r) {
  float p = 1.98910013e-4f;
  p = std::fma(p, r, 1.39336591e-3f);
  p = std::fma(p, r, 8.33331048e-3f);
  p = std::fma(p, r, 4.1666463e-2f);
  p = std::fma(p, r, 1.66666672e-1f);
  return std::fma(p, r, 0.5f);
}

// e^x within 1 ulp. Results below the smallest normal float are 0 (so Exp(-inf) = 0), above the largest +inf; NaN
// stays.
inline float Exp(float x) {
  constexpr float kUnderflow = -87.33654f, kOverflow = 88.72284f;
  float clamped = x < kUnderflow ? kUnderflow : x;
  clamped = clamped > kOverflow ? kOverflow : clamped;
  // x = n ln2 + r, |r| <= ln2 / 2: adding 1.5 * 2^23 leaves round(x / ln2) in the low bits of the sum.
  constexpr float kShift = 12582912.0f;
  const float shifted = std::fma(clamped, 1.44269504f, kShift);
  const float n = shifted - kShift;
  float r = std::fma(n, -0.693145752f, clamped);  // ln2 in two parts; the first has 9 trailing zero bits
  r = std::fma(n, -1.42860677e-6f, r);
  float p = std::fma(ExpRemainder(r), r * r, r);
  p += 1.0f;
  const uint32_t scaled = std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23);  // wraps for n < 0
  float y = std::bit_cast<float>(scaled);
  y = x < kUnderflow ? 0.0f : y;
  y = x > kOverflow ? std::numeric_limits<float>::infinity() : y;
  return x != x ? x : y;
}

// e^x - 1 within 4 ulp, also where x is small.
inline float ExpMinusOne(float x) {
  const float direct = std::fma(ExpRemainder(x), x * x, x), difference = Exp(x) - 1.0f;
  return std::fabs(x) < 0.34657359f ? direct : difference;
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// x * sigmoid(x).
inline float Silu(float x) { return x / (1.0f + Exp(-x)); }

// The largest of values[n], -inf if there is none; NaNs are ignored.
inline float MaxOf(const float* values, int64_t n) {
  constexpr int kLanes = 64;  // independent comparisons, enough to hide their latency
  float lanes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = -std::numeric_limits<float>::infinity();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
  }
  for (; i < n; ++i) lanes[i % kLanes] = values[i] > lanes[i % kLanes] ? values[i] : lanes[i % kLanes];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane)
      lanes[lane] = lanes[lane + width] > lanes[lane] ? lanes[lane + width] : lanes[lane];
  }
  return lanes[0];
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_VECTOR_MATH_H_
