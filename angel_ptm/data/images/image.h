// An image in memory, and the few operations that data sets need: all pure functions.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace angel_ptm {

// 8 bits a sample, rows from the top, channels interleaved [height, width, channels]: 1 grey, 2 grey and alpha, 3 RGB,
// 4 RGBA. Alpha is not premultiplied.
struct Image {
  int32_t width = 0;
  int32_t height = 0;
  int32_t channels = 0;
  std::vector<uint8_t> pixels;

  uint8_t* at(int32_t x, int32_t y) { return pixels.data() + (int64_t{y} * width + x) * channels; }
  const uint8_t* at(int32_t x, int32_t y) const { return pixels.data() + (int64_t{y} * width + x) * channels; }
};

// With that number of zero bytes.
Image MakeImage(int32_t width, int32_t height, int32_t channels);

// Lays alpha, if there is one, over white; 1 or 3 channels remain.
Image OverWhite(const Image& image);

// From grey to RGB and back (luma of ITU-R BT.601); `image` has 1 or 3 channels, `channels` is 1 or 3.
Image WithChannels(const Image& image, int32_t channels);

// Resamples with Lanczos 3, its support widened by the factor of reduction, so that reducing averages areas. Sums are
// in double and each output is one rounding. `image` has no alpha: lay it over white first.
Image Resize(const Image& image, int32_t width, int32_t height);

// How an image of another shape becomes width x height.
enum class Fit {
  kPad,   // whole, centred, on white
  kCrop,  // filled, the middle of the longer side kept
};
Image FitTo(const Image& image, int32_t width, int32_t height, Fit fit);

// 0..255 to -1..1, as models see it.
inline float LevelOfPixel(uint8_t pixel) { return static_cast<float>(2 * pixel - 255) / 255; }
// And back, from planes [channels, height, width]: values outside are clamped, NaN becomes black.
Image PlanesToImage(std::span<const float> planes, int32_t channels, int32_t height, int32_t width);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_H_
