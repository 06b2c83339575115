#include "angel_ptm/model/patches.h"

#include <cmath>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Calls fn(index in the image, index in the patches) for every element.
template <typename Fn>
void ForElements(const PatchGrid& g, const Fn& fn) {
  const int64_t area = g.patch * g.patch, of_channel = g.channels_last ? 1 : area;
  const int64_t of_pixel = g.channels_last ? g.channels : 1;
  int64_t begin = 0;
  for (int64_t y = 0; y < g.height; y += g.patch) {
    for (int64_t x = 0; x < g.width; x += g.patch, begin += g.channels * area) {
      for (int64_t c = 0; c < g.channels; ++c) {
        for (int64_t i = 0; i < area; ++i) {
          fn((c * g.height + y + i / g.patch) * g.width + x + i % g.patch, begin + c * of_channel + i * of_pixel);
        }
      }
    }
  }
}

}  // namespace

void ToPatches(const PatchGrid& grid, std::span<const float> image, std::span<float> patches) {
  APTM_CHECK(static_cast<int64_t>(image.size()) == grid.elements() && patches.size() == image.size());
  ForElements(grid, [&](int64_t pixel, int64_t at) { patches[at] = image[pixel]; });
}

void FromPatches(const PatchGrid& grid, std::span<const float> patches, std::span<float> image) {
  APTM_CHECK(static_cast<int64_t>(image.size()) == grid.elements() && patches.size() == image.size());
  ForElements(grid, [&](int64_t pixel, int64_t at) { image[pixel] = patches[at]; });
}

void RopeTable2d(int64_t rows, int64_t columns, int64_t head_dim, double theta, std::span<float> cos_sin) {
  APTM_CHECK(head_dim % 4 == 0 && static_cast<int64_t>(cos_sin.size()) == rows * columns * head_dim);
  const int64_t quarter = head_dim / 4;
  int64_t at = 0;
  for (int64_t token = 0; token < rows * columns; ++token) {
    for (int64_t pair = 0; pair < 2 * quarter; ++pair) {
      const auto place = static_cast<double>(pair < quarter ? token / columns : token % columns);
      const double angle = place * std::pow(theta, -static_cast<double>(pair % quarter) / static_cast<double>(quarter));
      cos_sin[at++] = static_cast<float>(std::cos(angle));
      cos_sin[at++] = static_cast<float>(std::sin(angle));
    }
  }
}

void TimeFeatures(double time, std::span<float> features) {
  const size_t half = features.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const double angle = time * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
    features[i] = static_cast<float>(std::cos(angle));
    features[half + i] = static_cast<float>(std::sin(angle));
  }
}

}  // namespace angel_ptm
