// Which pixels of an image are edges.
#include "angel_ptm/data/images/edges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace angel_ptm {
namespace {

// A grey image whose levels are level(x, y).
Image Grey(int32_t width, int32_t height, int (*level)(int x, int y)) {
  Image image = MakeImage(width, height, 1);
  for (int32_t y = 0; y < height; ++y) {
    for (int32_t x = 0; x < width; ++x) *image.at(x, y) = static_cast<uint8_t>(level(x, y));
  }
  return image;
}

// The edges as rows of '#' and '.'.
std::vector<std::string> EdgesOf(const Image& image) {
  const Image edges = EdgeMap(image);
  std::vector<std::string> rows;
  for (int32_t y = 0; y < edges.height; ++y) {
    std::string& row = rows.emplace_back();
    for (int32_t x = 0; x < edges.width; ++x) {
      for (int32_t c = 0; c < edges.channels; ++c) EXPECT_EQ(edges.at(x, y)[c], *edges.at(x, y));
      EXPECT_TRUE(*edges.at(x, y) == 0 || *edges.at(x, y) == 255);
      row += *edges.at(x, y) == 0 ? '.' : '#';
    }
  }
  return rows;
}

TEST(EdgeMapTest, AStepIsOnePixelWide) {
  const Image step = Grey(6, 3, [](int x, int) { return x < 3 ? 0 : 200; });
  EXPECT_EQ(EdgesOf(step), std::vector<std::string>(3, "..#..."));
  EXPECT_EQ(EdgesOf(WithChannels(step, 3)), EdgesOf(step));
  EXPECT_EQ(EdgeMap(WithChannels(step, 3)).channels, 3);
  EXPECT_EQ(EdgesOf(Grey(3, 6, [](int, int y) { return y < 3 ? 200 : 0; })),
            (std::vector<std::string>{"...", "...", "###", "...", "...", "..."}));
}

// A diagonal step gives a diagonal edge, in either direction.
TEST(EdgeMapTest, EdgesAreSoughtAcrossThem) {
  for (const bool mirrored : {false, true}) {
    const Image image = mirrored ? Grey(8, 8, [](int x, int y) { return 7 - x > y ? 0 : 255; })
                                 : Grey(8, 8, [](int x, int y) { return x > y ? 0 : 255; });
    const std::vector<std::string> rows = EdgesOf(image);
    for (size_t y = 1; y < 7; ++y) {  // the corners have no neighbours across
      const auto edges = std::count(rows[y].begin(), rows[y].end(), '#');
      EXPECT_TRUE(edges == 1 || edges == 2) << mirrored << rows[y];
    }
  }
}

// A step of c levels has a gradient of 4 c.
TEST(EdgeMapTest, AWeakEdgeIsOneBesideAStrongOne) {
  EXPECT_EQ(EdgesOf(Grey(6, 2, [](int x, int) { return x < 3 ? 0 : 49; })), std::vector<std::string>(2, "......"));
  EXPECT_EQ(EdgesOf(Grey(6, 2, [](int x, int) { return x < 3 ? 0 : 50; })), std::vector<std::string>(2, "..#..."));
  // A step of 60 levels in row 0 and 2 less in each row below. Beside the gradient of 4 c, its brighter side has |dy| =
  // 3 * 4.
  const std::vector<std::string> fading = EdgesOf(Grey(6, 30, [](int x, int y) { return x < 3 ? 0 : 60 - 2 * y; }));
  for (int y = 0; y < 30; ++y) EXPECT_EQ(fading[static_cast<size_t>(y)], y <= 19 ? "...#.." : "......") << y;
}

TEST(EdgeMapTest, NothingIsNoEdge) {
  EXPECT_EQ(EdgesOf(Grey(5, 4, [](int, int) { return 128; })), std::vector<std::string>(4, "....."));
  EXPECT_EQ(EdgesOf(Grey(1, 1, [](int, int) { return 255; })), std::vector<std::string>(1, "."));
}

}  // namespace
}  // namespace angel_ptm
