// Which image, crop and caption a sample is.
#include "angel_ptm/data/images/image_loader.h"

#include <algorithm>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/data/images/small_set.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ImageLoaderTest : public testing::Test {
 protected:
  ImageLoaderTest() {
    WriteSet(folder_ / "a.images", SmallSet(23));
    file_ = OrDie(ImageFile::Open(folder_ / "a.images"));
  }
  ImageLoader Load(const ImageLoaderOptions& options) { return OrDie(ImageLoader::Create(file_.get(), options)); }

  const TemporaryFolder folder_;
  std::unique_ptr<ImageFile> file_;
};

struct Owned {
  Owned(int64_t rows, int64_t pixels, int64_t length)
      : images(static_cast<size_t>(rows * pixels), 7),
        tokens(static_cast<size_t>(rows * length), -7),
        counts(static_cast<size_t>(rows), -7),
        classes(counts),
        styles(counts),
        samples(static_cast<size_t>(rows), -7) {}
  ImageBatch batch() { return {images, tokens, counts, classes, styles, samples}; }
  friend bool operator==(const Owned&, const Owned&) = default;

  std::vector<float> images;
  std::vector<int32_t> tokens, counts, classes, styles;
  std::vector<int64_t> samples;
};

TEST_F(ImageLoaderTest, AnEpochHasEveryImageOnce) {
  const ImageLoader loader = Load({.seed = 4, .caption_tokens = 3});
  std::vector<int64_t> first, second;
  for (int64_t i = 0; i < 23; ++i) {
    first.push_back(OrDie(loader.SampleAt(i)).image);
    second.push_back(OrDie(loader.SampleAt(23 + i)).image);
  }
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 23U);
  EXPECT_EQ(std::set<int64_t>(second.begin(), second.end()).size(), 23U);
}

TEST_F(ImageLoaderTest, DrawsCutsFlipsLanguagesAndCaptions) {
  const ImageLoader loader =
      Load({.seed = 4, .height = 4, .width = 5, .flip_probability = 0.25, .caption_tokens = 3, .other_captions = 0.6});
  std::map<int32_t, int> tops, lefts, flips, languages, captions;
  constexpr int kSamples = 23 * 200;
  int choices = 0;
  for (int64_t i = 0; i < kSamples; ++i) {
    const ImageSample sample = OrDie(loader.SampleAt(i));
    ++tops[sample.top];
    ++lefts[sample.left];
    ++flips[sample.flipped];
    if (sample.image % 5 != 0) ++languages[sample.language];
    EXPECT_TRUE(sample.image % 5 != 0 || sample.language == 0);  // every fifth has none in the second language
    if (sample.language == 0 && sample.image % 3 == 2) ++captions[sample.which], ++choices;
  }
  const auto expect = [](const std::map<int32_t, int>& counts, const std::vector<double>& shares) {
    ASSERT_EQ(counts.size(), shares.size());
    double all = 0;
    for (const auto& [value, count] : counts) all += count;
    for (const auto& [value, count] : counts) EXPECT_NEAR(count / all, shares[static_cast<size_t>(value)], 0.04);
  };
  expect(tops, {0.5, 0.5});
  expect(lefts, {1.0 / 3, 1.0 / 3, 1.0 / 3});
  expect(flips, {0.75, 0.25});
  expect(languages, {0.5, 0.5});
  EXPECT_GT(choices, 500);
  expect(captions, {0.4 + 0.2, 0.2, 0.2});
}

TEST_F(ImageLoaderTest, RowsDoNotDependOnTheWorld) {
  const ImageLoaderOptions options = {.global_batch = 7,
                                      .micro_batch = 2,
                                      .seed = 4,
                                      .height = 4,
                                      .width = 4,
                                      .flip_probability = 0.5,
                                      .caption_tokens = 3,
                                      .other_captions = 1};
  const ImageLoader loader = Load(options);
  ImageLoaderOptions single = options;
  single.micro_batch = 1;
  const ImageLoader one = Load(single);
  for (const int64_t world : {1, 3}) {
    std::set<int64_t> seen;
    int64_t weighing = 0;
    for (int64_t rank = 0; rank < world; ++rank) {
      for (int64_t micro = 0; micro < loader.MicroBatchesPerStep(world); ++micro) {
        Owned two(2, 48, 3);
        weighing += OrDie(loader.FillMicroBatch({21, micro, rank, world}, two.batch()));
        for (int64_t row = 0; row < 2; ++row) {
          const int64_t sample = two.samples[static_cast<size_t>(row)];
          if (sample < 0) continue;
          EXPECT_TRUE(seen.insert(sample).second);
          Owned wanted(1, 48, 3);
          OrDie(one.FillMicroBatch({21, sample - 21, 0, 1}, wanted.batch()));
          EXPECT_EQ(wanted.samples[0], sample);
          EXPECT_TRUE(std::equal(wanted.images.begin(), wanted.images.end(), two.images.begin() + 48 * row));
          EXPECT_TRUE(std::equal(wanted.tokens.begin(), wanted.tokens.end(), two.tokens.begin() + 3 * row));
          EXPECT_EQ(wanted.counts[0], two.counts[static_cast<size_t>(row)]);
          EXPECT_EQ(wanted.classes[0], two.classes[static_cast<size_t>(row)]);
          EXPECT_EQ(wanted.styles[0], two.styles[static_cast<size_t>(row)]);
        }
      }
    }
    EXPECT_EQ(weighing, 7);
    EXPECT_EQ(seen.size(), 7U);
    EXPECT_EQ(*seen.begin(), 21);
    EXPECT_EQ(*seen.rbegin(), 27);
  }
}

TEST_F(ImageLoaderTest, EvaluationIsFixed) {
  const ImageLoader loader = Load({.global_batch = 4,
                                   .micro_batch = 4,
                                   .seed = 9,
                                   .evaluation_samples = 6,
                                   .height = 3,
                                   .width = 3,
                                   .flip_probability = 1,
                                   .caption_tokens = 3,
                                   .other_captions = 1});
  EXPECT_EQ(loader.sample_count(), 6);
  EXPECT_EQ(loader.step_count(), 2);
  for (int64_t i = 0; i < 6; ++i) {
    const ImageSample sample = OrDie(loader.SampleAt(i));
    EXPECT_EQ(sample.top, 1);
    EXPECT_EQ(sample.left, 2);
    EXPECT_FALSE(sample.flipped);
    EXPECT_EQ(sample.which, 0);
    EXPECT_TRUE(sample.image % 5 == 0 || sample.language == i % 2);
  }
  Owned rows(4, 27, 3);
  EXPECT_EQ(OrDie(loader.FillMicroBatch({4, 0, 0, 1}, rows.batch())), 2);
  EXPECT_THAT(rows.samples, ElementsAre(4, 5, -1, -1));
  for (size_t i = 54; i < rows.images.size(); ++i) EXPECT_EQ(rows.images[i], 0);
  for (size_t i = 6; i < rows.tokens.size(); ++i) EXPECT_EQ(rows.tokens[i], 1);
}

TEST_F(ImageLoaderTest, PartsMayBeLeftOut) {
  const ImageLoader loader = Load({.global_batch = 2, .micro_batch = 2, .caption_tokens = 3});
  Owned all(2, 105, 3), some(2, 105, 3);
  OrDie(loader.FillMicroBatch({}, all.batch()));
  OrDie(loader.FillMicroBatch({}, {.images = some.images, .samples = some.samples}));
  EXPECT_EQ(some.images, all.images);
  EXPECT_EQ(some.samples, all.samples);
}

// Resumed runs rely on this order.
TEST_F(ImageLoaderTest, TheOrderIsPinned) {
  const ImageLoader loader =
      Load({.seed = 4, .height = 3, .width = 3, .flip_probability = 0.5, .caption_tokens = 3, .other_captions = 1});
  std::string order;
  for (int64_t i = 20; i < 26; ++i) {
    const ImageSample s = OrDie(loader.SampleAt(i));
    absl::StrAppend(&order, s.image, ":", s.top, s.left, s.flipped, s.language, s.which, " ");
  }
  EXPECT_EQ(order, "13:20110 5:23100 7:02101 15:01100 17:13110 10:03101 ");
  EXPECT_THAT(loader.Describe(), HasSubstr("cut to 3 x 3, flipped 0.5, captions of 3 tokens, others 1, languages 0 1, "
                                           "seed 4"));
}

TEST_F(ImageLoaderTest, OptionsThatCannotBeAreRefused) {
  const auto error = [&](const ImageLoaderOptions& options) {
    return std::string(ImageLoader::Create(file_.get(), options).status().message());
  };
  EXPECT_THAT(error({.micro_batch = 0, .caption_tokens = 1}), HasSubstr("should be at least 1 image"));
  EXPECT_THAT(error({.height = 6, .width = 7, .caption_tokens = 1}), HasSubstr("wanted at most 7 x 5, got 7 x 6"));
  EXPECT_THAT(error({.flip_probability = 1.5, .caption_tokens = 1}), HasSubstr("wanted 0 to 1, got 1.5"));
  EXPECT_THAT(error({.caption_tokens = 0}), HasSubstr("wanted at least 1 token, got 0"));
  EXPECT_THAT(error({.caption_tokens = 1, .languages = {2}}), HasSubstr("wanted 0 to 1, got 2"));
}

}  // namespace
}  // namespace angel_ptm
