#include "angel_ptm/data/images/image.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

uint8_t RoundToPixel(double value) { return static_cast<uint8_t>(std::lrint(std::clamp(value, 0.0, 255.0))); }

double Lanczos3(double x) {
  if (x == 0) return 1;
  if (std::abs(x) >= 3) return 0;
  const double t = std::numbers::pi * x;
  return 3 * std::sin(t) * std::sin(t / 3) / (t * t);
}

// The input samples that contribute to an output sample, and their weights, which sum to 1.
struct Taps {
  int32_t first = 0;
  std::vector<double> weights;
};

std::vector<Taps> MakeTaps(int32_t from, int32_t to) {
  const double factor = static_cast<double>(from) / to, widened = std::max(1.0, factor);
  std::vector<Taps> all(static_cast<size_t>(to));
  for (int32_t i = 0; i < to; ++i) {
    Taps& taps = all[static_cast<size_t>(i)];
    const double centre = (i + 0.5) * factor;
    taps.first = std::max(0, static_cast<int32_t>(std::floor(centre - 3 * widened)));
    const int32_t last = std::min(from - 1, static_cast<int32_t>(std::ceil(centre + 3 * widened)));
    double sum = 0;
    for (int32_t j = taps.first; j <= last; ++j) {
      taps.weights.push_back(Lanczos3((j + 0.5 - centre) / widened));
      sum += taps.weights.back();
    }
    for (double& weight : taps.weights) weight /= sum;
  }
  return all;
}

Image Cut(const Image& image, int32_t left, int32_t top, int32_t width, int32_t height) {
  Image cut = MakeImage(width, height, image.channels);
  for (int32_t y = 0; y < height; ++y) {
    std::copy_n(image.at(left, top + y), int64_t{width} * image.channels, cut.at(0, y));
  }
  return cut;
}

}  // namespace

Image MakeImage(int32_t width, int32_t height, int32_t channels) {
  APTM_CHECK(width > 0 && height > 0 && channels >= 1 && channels <= 4, width, " x ", height, " x ", channels);
  return {.width = width,
          .height = height,
          .channels = channels,
          .pixels = std::vector<uint8_t>(static_cast<size_t>(int64_t{width} * height * channels))};
}

Image OverWhite(const Image& image) {
  if (image.channels % 2 == 1) return image;
  const int32_t colours = image.channels - 1;
  Image opaque = MakeImage(image.width, image.height, colours);
  const size_t pixels = image.pixels.size() / static_cast<size_t>(image.channels);
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* from = image.pixels.data() + i * static_cast<size_t>(image.channels);
    const int alpha = from[colours];
    for (int32_t c = 0; c < colours; ++c) {
      opaque.pixels[i * static_cast<size_t>(colours) + static_cast<size_t>(c)] =
          static_cast<uint8_t>((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return opaque;
}

Image WithChannels(const Image& image, int32_t channels) {
  APTM_CHECK(image.channels % 2 == 1 && (channels == 1 || channels == 3), image.channels, " to ", channels);
  if (image.channels == channels) return image;
  Image result = MakeImage(image.width, image.height, channels);
  const size_t pixels = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
  for (size_t i = 0; i < pixels; ++i) {
    if (channels == 3) {
      std::fill_n(result.pixels.begin() + static_cast<int64_t>(3 * i), 3, image.pixels[i]);
    } else {
      const uint8_t* p = image.pixels.data() + 3 * i;
      result.pixels[i] = RoundToPixel(0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]);
    }
  }
  return result;
}

Image Resize(const Image& image, int32_t width, int32_t height) {
  APTM_CHECK(image.channels % 2 == 1, "alpha is laid over white before resizing");
  if (width == image.width && height == image.height) return image;
  const size_t channels = static_cast<size_t>(image.channels);
  const std::vector<Taps> across = MakeTaps(image.width, width), down = MakeTaps(image.height, height);
  const size_t row_size = static_cast<size_t>(width) * channels;
  std::vector<double> rows(row_size * static_cast<size_t>(image.height));  // resampled horizontally
  for (int32_t y = 0; y < image.height; ++y) {
    double* row = rows.data() + static_cast<size_t>(y) * row_size;
    for (size_t x = 0; x < across.size(); ++x) {
      const uint8_t* from = image.at(across[x].first, y);
      for (size_t k = 0; k < across[x].weights.size(); ++k) {
        for (size_t c = 0; c < channels; ++c) row[x * channels + c] += across[x].weights[k] * from[k * channels + c];
      }
    }
  }
  Image result = MakeImage(width, height, image.channels);
  std::vector<double> sums(row_size);
  for (size_t y = 0; y < down.size(); ++y) {
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t k = 0; k < down[y].weights.size(); ++k) {
      const double* row = rows.data() + (static_cast<size_t>(down[y].first) + k) * row_size;
      for (size_t x = 0; x < row_size; ++x) sums[x] += down[y].weights[k] * row[x];
    }
    for (size_t x = 0; x < row_size; ++x) result.pixels[y * row_size + x] = RoundToPixel(sums[x]);
  }
  return result;
}

Image FitTo(const Image& image, int32_t width, int32_t height, Fit fit) {
  const double across = static_cast<double>(width) / image.width, down = static_cast<double>(height) / image.height;
  const double factor = fit == Fit::kPad ? std::min(across, down) : std::max(across, down);
  const int32_t scaled_width = std::max(1, static_cast<int32_t>(std::lrint(image.width * factor)));
  const int32_t scaled_height = std::max(1, static_cast<int32_t>(std::lrint(image.height * factor)));
  const Image scaled = Resize(image, scaled_width, scaled_height);
  if (fit == Fit::kCrop) {
    return Cut(scaled, (scaled_width - width) / 2, (scaled_height - height) / 2, width, height);
  }
  Image padded = MakeImage(width, height, image.channels);
  std::fill(padded.pixels.begin(), padded.pixels.end(), 255);
  const int32_t left = (width - scaled_width) / 2, top = (height - scaled_height) / 2;
  for (int32_t y = 0; y < scaled_height; ++y) {
    std::copy_n(scaled.at(0, y), int64_t{scaled_width} * image.channels, padded.at(left, top + y));
  }
  return padded;
}

Image PlanesToImage(std::span<const float> planes, int32_t channels, int32_t height, int32_t width) {
  Image image = MakeImage(width, height, channels);
  APTM_CHECK(planes.size() == image.pixels.size(), planes.size(), " for ", image.pixels.size());
  const size_t area = static_cast<size_t>(height) * static_cast<size_t>(width), count = static_cast<size_t>(channels);
  for (size_t c = 0; c < count; ++c) {
    for (size_t i = 0; i < area; ++i) {
      const double level = planes[c * area + i];
      image.pixels[i * count + c] = std::isnan(level) ? 0 : RoundToPixel((level + 1) * 127.5);
    }
  }
  return image;
}

}  // namespace angel_ptm
