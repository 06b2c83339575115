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

// Of output samples `begin` to `begin + count` - 1 of `to`.
std::vector<Taps> MakeTaps(int32_t from, int64_t to, int64_t begin, int32_t count) {
  const double factor = static_cast<double>(from) / static_cast<double>(to), widened = std::max(1.0, factor);
  std::vector<Taps> all(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; ++i) {
    Taps& taps = all[static_cast<size_t>(i)];
    const double centre = (static_cast<double>(begin + i) + 0.5) * factor;
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

namespace {

// Makes an output whose columns are described by `across` and whose rows are described by `down`.
Image Resample(const Image& image, const std::vector<Taps>& across, const std::vector<Taps>& down) {
  const size_t channels = static_cast<size_t>(image.channels), row_size = across.size() * channels;
  // Input rows that are read.
  const int32_t top = down.front().first;
  const int32_t bottom = down.back().first + static_cast<int32_t>(down.back().weights.size());
  std::vector<double> rows(row_size * static_cast<size_t>(bottom - top));  // resampled horizontally
  for (int32_t y = top; y < bottom; ++y) {
    double* row = rows.data() + static_cast<size_t>(y - top) * row_size;
    for (size_t x = 0; x < across.size(); ++x) {
      const uint8_t* from = image.at(across[x].first, y);
      for (size_t k = 0; k < across[x].weights.size(); ++k) {
        for (size_t c = 0; c < channels; ++c) row[x * channels + c] += across[x].weights[k] * from[k * channels + c];
      }
    }
  }
  Image result = MakeImage(static_cast<int32_t>(across.size()), static_cast<int32_t>(down.size()), image.channels);
  std::vector<double> sums(row_size);
  for (size_t y = 0; y < down.size(); ++y) {
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t k = 0; k < down[y].weights.size(); ++k) {
      const double* row = rows.data() + (static_cast<size_t>(down[y].first - top) + k) * row_size;
      for (size_t x = 0; x < row_size; ++x) sums[x] += down[y].weights[k] * row[x];
    }
    for (size_t x = 0; x < row_size; ++x) result.pixels[y * row_size + x] = RoundToPixel(sums[x]);
  }
  return result;
}

}  // namespace

Image Resize(const Image& image, int32_t width, int32_t height) {
  APTM_CHECK(image.channels % 2 == 1, "alpha is laid over white before resizing");
  if (width == image.width && height == image.height) return image;
  return Resample(image, MakeTaps(image.width, width, 0, width), MakeTaps(image.height, height, 0, height));
}

Image FitTo(const Image& image, int32_t width, int32_t height, Fit fit) {
  APTM_CHECK(image.channels % 2 == 1, "alpha is laid over white before resizing");
  const double across = static_cast<double>(width) / image.width, down = static_cast<double>(height) / image.height;
  const double factor = fit == Fit::kPad ? std::min(across, down) : std::max(across, down);
  const int64_t scaled_width = std::max<int64_t>(1, std::lrint(image.width * factor));
  const int64_t scaled_height = std::max<int64_t>(1, std::lrint(image.height * factor));
  if (fit == Fit::kCrop) {
    const int64_t left = (scaled_width - width) / 2, top = (scaled_height - height) / 2;
    if (scaled_width == image.width && scaled_height == image.height) {
      return Cut(image, static_cast<int32_t>(left), static_cast<int32_t>(top), width, height);
    }
    // Only what is kept: of a line of pixels the whole would be many times larger.
    return Resample(image, MakeTaps(image.width, scaled_width, left, width),
                    MakeTaps(image.height, scaled_height, top, height));
  }
  const Image scaled = Resize(image, static_cast<int32_t>(scaled_width), static_cast<int32_t>(scaled_height));
  Image padded = MakeImage(width, height, image.channels);
  std::fill(padded.pixels.begin(), padded.pixels.end(), 255);
  const int32_t left = (width - scaled.width) / 2, top = (height - scaled.height) / 2;
  for (int32_t y = 0; y < scaled.height; ++y) {
    std::copy_n(scaled.at(0, y), int64_t{scaled.width} * image.channels, padded.at(left, top + y));
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
