#include "angel_ptm/data/images/nearest.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "tests/data/images/small_set.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

TEST(Nearest, RanksTheImageThatWasAskedFor) {
  const TemporaryFolder folder;
  auto set = SmallSet(12);
  set[7].captions[0][0].text = set[3].captions[0][0].text;  // another drawing with the same caption
  set[9].image = set[8].image;
  WriteSet(folder / "a.images", set);
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  const NearestImages nearest = OrDie(NearestImages::Read(*file));
  EXPECT_EQ(nearest.count(), 12);
  EXPECT_EQ(nearest.Find("none of them"), nullptr);
  const NearestImages::Asked* chinese = nearest.Find("名 4 0");
  ASSERT_NE(chinese, nullptr);
  EXPECT_EQ(chinese->language, 1);
  EXPECT_EQ(nearest.NearerImages(nearest.image(4), *chinese), 0);
  EXPECT_GT(nearest.NearerImages(nearest.image(5), *chinese), 0);
  // Either of two drawings counts, and equal images are not distinguished.
  const NearestImages::Asked* twice = nearest.Find("name 3 0");
  ASSERT_NE(twice, nullptr);
  EXPECT_EQ(twice->images, (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(nearest.NearerImages(nearest.image(3), *twice), 0);
  EXPECT_EQ(nearest.NearerImages(nearest.image(7), *twice), 0);
  EXPECT_EQ(nearest.NearerImages(nearest.image(9), *nearest.Find("name 8 0")), 0);
  // A mixture of two images is nearest to the one with the larger share, then to the other.
  std::vector<float> mixed(nearest.image(0).begin(), nearest.image(0).end());
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = 0.6F * nearest.image(0)[i] + 0.4F * nearest.image(1)[i];
  EXPECT_EQ(nearest.NearerImages(mixed, *nearest.Find("name 0 0")), 0);
  EXPECT_EQ(nearest.NearerImages(mixed, *nearest.Find("name 1 0")), 1);
}

TEST(Nearest, DistancesAreMeanSquares) {
  const TemporaryFolder folder;
  auto set = SmallSet(2);
  std::fill(set[0].image.pixels.begin(), set[0].image.pixels.end(), 0);
  std::fill(set[1].image.pixels.begin(), set[1].image.pixels.end(), 255);
  WriteSet(folder / "a.images", set);
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  const NearestImages nearest = OrDie(NearestImages::Read(*file));
  EXPECT_EQ(nearest.Distance(nearest.image(0), nearest.image(1)), 4);
  EXPECT_EQ(nearest.ChanceDistance(), 4);
}

}  // namespace
}  // namespace angel_ptm
