// An image in memory, and the few operations that datasets need, all pure functions.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace angel_ptm {

// 8 bits per sample, rows from the top, channels interleaved [height, width, channels]: 1 grey, 2 grey and alpha, 3
// RGB, 4 RGBA. Alpha is not premultiplied.
struct Image {
  int32_t width = 0;
  int32_t height = 0;
  int32_t channels = 0;
  std::vector<uint8_t> pixels;

  uint8_t* at(int32_t x, int32_t y) { return pixels.data() + (int64_t{y} * width + x) * channels; }
  const uint8_t* at(int32_t x, int32_t y) const { return pixels.data() + (int64_t{y} * width + x) * channels; }
};

// An image of this size, filled with zeros.
Image MakeImage(int32_t width, int32_t height, int32_t channels);

// Blends an image with alpha onto white; the result has 1 or 3 channels.
Image OverWhite(const Image& image);

// Converts between grey and RGB (luma of ITU-R BT.601). `image` has 1 or 3 channels, `channels` is 1 or 3.
Image WithChannels(const Image& image, int32_t channels);

// Resamples with Lanczos 3. When reducing, the filter's support grows by the factor of reduction, so that areas are
// averaged. Sums are in double, and each output is rounded once. `image` must not have alpha: blend it onto white
// first.
Image Resize(const Image& image, int32_t width, int32_t height);

// How an image of another shape is fitted to width x height.
enum class Fit {
  kPad,   // whole image, centred on white
  kCrop,  // fill, keeping the middle of the longer side
};
Image FitTo(const Image& image, int32_t width, int32_t height, Fit fit);

// Maps 0..255 to -1..1, as models see pixels.
inline float LevelOfPixel(uint8_t pixel) { return static_cast<float>(2 * pixel - 255) / 255; }
// The inverse, from planes [channels, height, width]: values outside are clamped, NaN becomes black.
Image PlanesToImage(std::span<const float> planes, int32_t channels, int32_t height, int32_t width);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_H_
