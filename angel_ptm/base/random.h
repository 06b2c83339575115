// Counter-based random numbers: a value is a pure function of (seed, purpose, counter), so no generator state travels
// between ranks, and any rank can generate any element of any tensor (Salmon et al. 2011, Philox 4x32-10).
#ifndef ANGEL_PTM_BASE_RANDOM_H_
#define ANGEL_PTM_BASE_RANDOM_H_

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace angel_ptm {

// What a random number is for; distinct purposes give independent streams under one seed.
enum class RandomPurpose : uint32_t { kInitialisation = 1, kSampling = 2, kTest = 3, kAugmentation = 4 };

inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Four independent 32-bit words for element `counter` of stream (seed, purpose, stream).
inline std::array<uint32_t, 4> RandomWords(uint64_t seed, RandomPurpose purpose, uint32_t stream, uint64_t counter) {
  return Philox(
      {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), stream, static_cast<uint32_t>(purpose)},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// Uniform in (0, 1).
inline double ToUniform(uint32_t word) { return (word + 0.5) * 0x1p-32; }

// Standard normal (Box and Muller 1958).
inline float RandomNormal(uint64_t seed, RandomPurpose purpose, uint32_t stream, uint64_t counter) {
  const auto words = RandomWords(seed, purpose, stream, counter);
  const double radius = std::sqrt(-2 * std::log(ToUniform(words[0])));
  return static_cast<float>(radius * std::cos(2 * std::numbers::pi * ToUniform(words[1])));
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_RANDOM_H_
