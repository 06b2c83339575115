// Random numbers for diffusion as pure functions of (seed, purpose, sample index): the same on any rank, in any
// micro-batch, after any resume.
#ifndef ANGEL_PTM_TRAIN_DIFFUSION_NOISE_H_
#define ANGEL_PTM_TRAIN_DIFFUSION_NOISE_H_

#include <cstdint>
#include <span>

namespace angel_ptm {

enum class NoisePurpose : uint32_t {
  kTrainingNoise = 0x100,
  kTrainingTime = 0x101,
  kTrainingDrop = 0x102,  // dropped conditions, for classifier-free guidance
  kTrainingOffset = 0x103,
  kSamplingStart = 0x104,  // x_T
  kSamplingStep = 0x105,   // noise that a sampling step adds
  kPosterior = 0x106,      // noise of an autoencoder's posterior
};

struct NoiseKey {
  uint64_t seed = 0;
  NoisePurpose purpose = NoisePurpose::kTrainingNoise;
  int64_t sample = 0;   // below 2^48
  uint32_t stream = 0;  // separates streams of one purpose, such as a text stream or a sampling step; below 2^16
};

// Element i is normal number i of the key, whatever the length of `out`.
void FillNormal(const NoiseKey& key, std::span<float> out);
// Uniform number i of the key, in (0, 1).
double UniformAt(const NoiseKey& key, uint32_t i = 0);

// eps[c, :] += offset * normal number c, for images that should reach dark and bright means. eps is [channels, pixels].
// The key is kTrainingOffset of (seed, sample).
void AddNoiseOffset(uint64_t seed, int64_t sample, int64_t channels, double offset, std::span<float> eps);

// A time in 0..steps-1, uniformly distributed.
int64_t TrainingTime(uint64_t seed, int64_t sample, int64_t steps);
// A flow time: 1 / (1 + exp(-(mean + deviation * normal))) (Esser et al. 2024), then shifted.
double TrainingFlowTime(uint64_t seed, int64_t sample, double mean, double deviation, double shift);
// Whether the condition of a text stream is dropped for this sample.
bool DropsCondition(uint64_t seed, int64_t sample, uint32_t text_stream, double probability);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DIFFUSION_NOISE_H_
