// Inputs of diffusion transformers: images as rows of patches, positions as rotation angles, times as sinusoids.
#ifndef ANGEL_PTM_MODEL_PATCHES_H_
#define ANGEL_PTM_MODEL_PATCHES_H_

#include <cstdint>
#include <span>

namespace angel_ptm {

// An image [channels, height, width] and its patches in row-major order from the top left, each [channels, patch,
// patch] or, with channels_last, [patch, patch, channels]. `patch` divides height and width.
struct PatchGrid {
  int64_t channels = 0, height = 0, width = 0, patch = 0;
  bool channels_last = false;

  int64_t elements() const { return channels * height * width; }
};
void ToPatches(const PatchGrid& grid, std::span<const float> image, std::span<float> patches);
void FromPatches(const PatchGrid& grid, std::span<const float> patches, std::span<float> image);

// cos_sin[rows*columns, head_dim/2, 2] of 2D RoPE: the first half of the pairs rotates with the row, the other with the
// column, by theta^(-2i / (head_dim/2)) for pair i of its half (Heo et al. 2024, axial). head_dim is a multiple of 4.
void RopeTable2d(int64_t rows, int64_t columns, int64_t head_dim, double theta, std::span<float> cos_sin);

// features = cos(time f_i), then sin(time f_i), with f_i = 10000^(-i/half) (Vaswani et al. 2017; Ho et al. 2020). Times
// should span about a thousand. features.size() must be even.
void TimeFeatures(double time, std::span<float> features);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_PATCHES_H_
