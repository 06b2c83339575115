#include "angel_ptm/data/images/edges.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace angel_ptm {
namespace {

constexpr int32_t kWeak = 100, kStrong = 200;

// A number for each pixel of an image. Pixels outside have the value of the nearest one inside.
class Plane {
 public:
  Plane(int32_t width, int32_t height) : width_(width), height_(height), values_(static_cast<size_t>(width) * height) {}
  int32_t width() const { return width_; }
  int32_t height() const { return height_; }
  int32_t& at(int32_t x, int32_t y) { return values_[static_cast<size_t>(y) * width_ + x]; }
  int32_t Near(int32_t x, int32_t y) const {
    return values_[static_cast<size_t>(std::clamp(y, 0, height_ - 1)) * width_ + std::clamp(x, 0, width_ - 1)];
  }
  // Like at(), but 0 outside.
  int32_t Inside(int32_t x, int32_t y) const {
    return x < 0 || y < 0 || x >= width_ || y >= height_ ? 0 : values_[static_cast<size_t>(y) * width_ + x];
  }

 private:
  const int32_t width_, height_;
  std::vector<int32_t> values_;
};

// The direction across the edge of a gradient, the nearest of eight, as a step (x, y) to one of the two neighbours in
// it.
std::pair<int32_t, int32_t> Across(int32_t dx, int32_t dy) {
  // tan(22.5 degrees) = 0.41421, in units of 2^-15.
  constexpr int64_t kTangent = 13573, kOne = 1 << 15;
  const int64_t ax = std::abs(dx), ay = std::abs(dy);
  if (ay * kOne < ax * kTangent) return {1, 0};
  if (ax * kOne < ay * kTangent) return {0, 1};
  return {(dx < 0) == (dy < 0) ? 1 : -1, 1};
}

// The gradient's size where it is the maximum across its edge, 0 elsewhere.
Plane Ridges(const Plane& luma) {
  const int32_t w = luma.width(), h = luma.height();
  Plane dx(w, h), dy(w, h), size(w, h), ridges(w, h);
  for (int32_t y = 0; y < h; ++y) {
    for (int32_t x = 0; x < w; ++x) {
      const auto l = [&](int32_t i, int32_t j) { return luma.Near(x + i, y + j); };
      dx.at(x, y) = l(1, -1) + 2 * l(1, 0) + l(1, 1) - l(-1, -1) - 2 * l(-1, 0) - l(-1, 1);
      dy.at(x, y) = l(-1, 1) + 2 * l(0, 1) + l(1, 1) - l(-1, -1) - 2 * l(0, -1) - l(1, -1);
      size.at(x, y) = std::abs(dx.at(x, y)) + std::abs(dy.at(x, y));
    }
  }
  for (int32_t y = 0; y < h; ++y) {
    for (int32_t x = 0; x < w; ++x) {
      const auto [i, j] = Across(dx.at(x, y), dy.at(x, y));
      const int32_t own = size.at(x, y);
      // Of two equal neighbours, exactly one is an edge.
      if (own > size.Inside(x - i, y - j) && own >= size.Inside(x + i, y + j)) ridges.at(x, y) = own;
    }
  }
  return ridges;
}

}  // namespace

Image EdgeMap(const Image& image) {
  const Image grey = WithChannels(image, 1);
  const int32_t w = grey.width, h = grey.height;
  Plane luma(w, h);
  for (int32_t y = 0; y < h; ++y) {
    for (int32_t x = 0; x < w; ++x) luma.at(x, y) = *grey.at(x, y);
  }
  const Plane ridges = Ridges(luma);
  Image edges = MakeImage(w, h, image.channels);
  std::vector<std::pair<int32_t, int32_t>> found;
  const auto add = [&](int32_t x, int32_t y, int32_t least) {
    if (ridges.Inside(x, y) < least || *edges.at(x, y) != 0) return;
    std::fill_n(edges.at(x, y), image.channels, uint8_t{255});
    found.emplace_back(x, y);
  };
  for (int32_t y = 0; y < h; ++y) {
    for (int32_t x = 0; x < w; ++x) add(x, y, kStrong);
  }
  while (!found.empty()) {
    const auto [x, y] = found.back();
    found.pop_back();
    for (int32_t j = -1; j <= 1; ++j) {
      for (int32_t i = -1; i <= 1; ++i) add(x + i, y + j, kWeak);
    }
  }
  return edges;
}

}  // namespace angel_ptm
