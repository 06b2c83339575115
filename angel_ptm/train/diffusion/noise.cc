#include "angel_ptm/train/diffusion/noise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/train/diffusion/schedule.h"

namespace angel_ptm {
namespace {

constexpr int64_t kSampleMax = int64_t{1} << 48;
constexpr uint32_t kStreamMax = 1u << 16;

// Purposes lie above those of base/random.h, so no counter occurs twice under one seed.
std::array<uint32_t, 4> Words(const NoiseKey& key, uint32_t block) {
  const uint64_t sample = static_cast<uint64_t>(key.sample);
  return Philox({block, static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32) | key.stream << 16,
                 static_cast<uint32_t>(key.purpose)},
                {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

void CheckKey(const NoiseKey& key) {
  APTM_CHECK(key.sample >= 0 && key.sample < kSampleMax && key.stream < kStreamMax, "sample ", key.sample, ", stream ",
             key.stream);
}

// Four normal numbers from four words (Box and Muller 1958).
std::array<float, 4> Normals(const std::array<uint32_t, 4>& words) {
  std::array<float, 4> normals;
  for (size_t pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2 * std::log(ToUniform(words[2 * pair])));
    const double angle = 2 * std::numbers::pi * ToUniform(words[2 * pair + 1]);
    normals[2 * pair] = static_cast<float>(radius * std::cos(angle));
    normals[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return normals;
}

}  // namespace

void FillNormal(const NoiseKey& key, std::span<float> out) {
  CheckKey(key);
  for (size_t first = 0; first < out.size(); first += 4) {
    const std::array<float, 4> normals = Normals(Words(key, static_cast<uint32_t>(first / 4)));
    std::copy_n(normals.begin(), std::min<size_t>(4, out.size() - first), out.begin() + static_cast<int64_t>(first));
  }
}

double UniformAt(const NoiseKey& key, uint32_t i) {
  CheckKey(key);
  return ToUniform(Words(key, i / 4)[i % 4]);
}

void AddNoiseOffset(uint64_t seed, int64_t sample, int64_t channels, double offset, std::span<float> eps) {
  APTM_CHECK(channels > 0 && eps.size() % static_cast<size_t>(channels) == 0, eps.size(), " in ", channels);
  if (offset == 0) return;
  const NoiseKey key = {.seed = seed, .purpose = NoisePurpose::kTrainingOffset, .sample = sample};
  CheckKey(key);
  const size_t pixels = eps.size() / static_cast<size_t>(channels);
  for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
    const float shift = static_cast<float>(offset * Normals(Words(key, static_cast<uint32_t>(c / 4)))[c % 4]);
    for (float& value : eps.subspan(c * pixels, pixels)) value += shift;
  }
}

int64_t TrainingTime(uint64_t seed, int64_t sample, int64_t steps) {
  const double uniform = UniformAt({.seed = seed, .purpose = NoisePurpose::kTrainingTime, .sample = sample});
  return std::min(steps - 1, static_cast<int64_t>(uniform * static_cast<double>(steps)));
}

double TrainingFlowTime(uint64_t seed, int64_t sample, double mean, double deviation, double shift) {
  float normal;
  FillNormal({.seed = seed, .purpose = NoisePurpose::kTrainingTime, .sample = sample}, std::span(&normal, 1));
  return ShiftFlowTime(1 / (1 + std::exp(-(mean + deviation * normal))), shift);
}

bool DropsCondition(uint64_t seed, int64_t sample, uint32_t text_stream, double probability) {
  return UniformAt({.seed = seed, .purpose = NoisePurpose::kTrainingDrop, .sample = sample, .stream = text_stream}) <
         probability;
}

}  // namespace angel_ptm
