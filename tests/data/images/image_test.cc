#include "angel_ptm/data/images/image.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

Image Grey(int32_t width, int32_t height, std::vector<uint8_t> pixels) {
  return {.width = width, .height = height, .channels = 1, .pixels = std::move(pixels)};
}

TEST(Image, AlphaIsLaidOverWhite) {
  const Image image = {
      .width = 3, .height = 1, .channels = 4, .pixels = {10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51}};
  EXPECT_THAT(OverWhite(image).pixels, ElementsAre(10, 20, 30, 255, 255, 255, 204, 224, 244));
  const Image grey = {.width = 2, .height = 1, .channels = 2, .pixels = {0, 128, 77, 255}};
  EXPECT_THAT(OverWhite(grey).pixels, ElementsAre(127, 77));
}

TEST(Image, GreyAndColour) {
  const Image grey = Grey(2, 1, {3, 200});
  EXPECT_THAT(WithChannels(grey, 3).pixels, ElementsAre(3, 3, 3, 200, 200, 200));
  EXPECT_EQ(WithChannels(WithChannels(grey, 3), 1).pixels, grey.pixels);
  const Image red = {.width = 1, .height = 1, .channels = 3, .pixels = {255, 0, 0}};
  EXPECT_THAT(WithChannels(red, 1).pixels, ElementsAre(76));
}

TEST(Image, ResizingKeepsWhatIsEven) {
  Image even = MakeImage(37, 23, 3);
  for (size_t i = 0; i < even.pixels.size(); ++i) even.pixels[i] = static_cast<uint8_t>(10 + 60 * (i % 3));
  for (const auto& [width, height] : {std::pair(5, 4), std::pair(64, 100), std::pair(37, 1), std::pair(1, 23)}) {
    const Image result = Resize(even, width, height);
    ASSERT_EQ(result.pixels.size(), static_cast<size_t>(width * height * 3));
    for (size_t i = 0; i < result.pixels.size(); ++i) EXPECT_EQ(result.pixels[i], 10 + 60 * (i % 3));
  }
}

// A straight ramp stays straight inside the image at any factor; a filter that is not centred would shift it.
TEST(Image, ResizingIsCentred) {
  Image ramp = MakeImage(120, 3, 1);
  for (int32_t y = 0; y < 3; ++y) {
    for (int32_t x = 0; x < 120; ++x) *ramp.at(x, y) = static_cast<uint8_t>(2 * x);
  }
  for (const int32_t width : {30, 50, 240}) {
    const Image result = Resize(ramp, width, 3);
    for (int32_t x = width / 5; x < width * 4 / 5; ++x) {
      EXPECT_NEAR(*result.at(x, 1), 2 * ((x + 0.5) * 120 / width - 0.5), 1.01) << width << " " << x;
    }
  }
}

// Detail finer than the new image can hold must vanish, not alias: a checkerboard becomes its mean.
TEST(Image, ReducingAveragesAreas) {
  Image board = MakeImage(64, 64, 1);
  for (int32_t y = 0; y < 64; ++y) {
    for (int32_t x = 0; x < 64; ++x) *board.at(x, y) = (x + y) % 2 == 0 ? 255 : 1;
  }
  const Image small = Resize(board, 20, 20);
  for (int32_t y = 3; y < 17; ++y) {
    for (int32_t x = 3; x < 17; ++x) EXPECT_NEAR(*small.at(x, y), 128, 2);
  }
}

TEST(Image, FitsByPaddingOrCropping) {
  const Image wide = Grey(4, 2, {10, 20, 30, 40, 50, 60, 70, 80});
  const Image padded = FitTo(wide, 4, 4, Fit::kPad);
  EXPECT_THAT(padded.pixels, ElementsAre(255, 255, 255, 255, 10, 20, 30, 40, 50, 60, 70, 80, 255, 255, 255, 255));
  const Image cropped = FitTo(wide, 2, 2, Fit::kCrop);
  EXPECT_THAT(cropped.pixels, ElementsAre(20, 30, 60, 70));
}

// The middle of the whole image resized, of which no more is made than is kept: of a line that would be 64 x
// 64,000,000.
TEST(Image, CroppingMakesOnlyWhatIsKept) {
  Image image = MakeImage(7, 33, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * i * 13 >> 3);
  for (const int32_t side : {3, 20}) {
    const Image cropped = FitTo(image, side, side, Fit::kCrop);
    const int32_t height = static_cast<int32_t>(std::lrint(33 * (side / 7.0)));
    const Image whole = Resize(image, side, height);
    const auto middle = whole.pixels.begin() + int64_t{(height - side) / 2} * side * 3;
    EXPECT_THAT(cropped.pixels, ElementsAreArray(middle, middle + int64_t{side} * side * 3)) << side;
  }
  Image line = MakeImage(1, 1'000'000, 1);
  std::ranges::fill(line.pixels, uint8_t{9});
  EXPECT_EQ(FitTo(line, 64, 64, Fit::kCrop).pixels, std::vector<uint8_t>(64 * 64, 9));
  std::swap(line.width, line.height);
  EXPECT_EQ(FitTo(line, 64, 64, Fit::kCrop).pixels, std::vector<uint8_t>(64 * 64, 9));
}

TEST(Image, LevelsGoForthAndBack) {
  std::vector<uint8_t> all(256);
  std::vector<float> planes;
  for (int v = 0; v < 256; ++v) {
    all[static_cast<size_t>(v)] = static_cast<uint8_t>(v);
    planes.push_back(LevelOfPixel(static_cast<uint8_t>(v)));
  }
  EXPECT_EQ(planes[0], -1);
  EXPECT_EQ(planes[255], 1);
  EXPECT_THAT(PlanesToImage(planes, 1, 16, 16).pixels, ElementsAreArray(all));
  const std::vector<float> odd = {
      -7, 9, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1, -1};
  EXPECT_THAT(PlanesToImage(odd, 3, 1, 2).pixels, ElementsAre(0, 0, 255, 255, 255, 0));
}

}  // namespace
}  // namespace angel_ptm
