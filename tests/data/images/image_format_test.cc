// A set written by format version 1, kept in testdata, can still be read, and the same images still give its bytes: a
// run continues on data that an older program prepared.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/images/prepare_images.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;

const std::string kVersion1 = std::string(ANGEL_PTM_IMAGE_TESTDATA) + "/version1";

ImageListing KeptListing() {
  ImageListing listing = {.languages = {"en", "zh"}, .styles = {"drawn", "photo"}, .classes = {"box", "cat"}};
  for (int i = 0; i < 6; ++i) {
    listing.items.push_back({.name = absl::StrCat(i),
                             .captions = {{absl::StrCat("a box ", i), "a box of boxes"}, {}},
                             .labels = {.class_id = i % 3 - 1, .style_id = i % 2},
                             .split = i == 4 ? ImageSplit::kValidation : ImageSplit::kTraining,
                             .load = [i]() -> absl::StatusOr<Image> {
                               Image image = MakeImage(3, 2, 3);
                               for (size_t k = 0; k < 18; ++k) image.pixels[k] = static_cast<uint8_t>(40 * i + 2 * k);
                               return image;
                             }});
    if (i % 2 == 0) listing.items.back().captions[1] = {"盒子"};
  }
  return listing;
}

TEST(ImageFormat, ReadsVersion1) {
  const ImageDataset dataset = OrDie(OpenImageDataset(kVersion1));
  EXPECT_EQ(dataset.manifest.version, 1);
  EXPECT_THAT(dataset.manifest.languages, ElementsAre("en", "zh"));
  EXPECT_THAT(dataset.manifest.styles, ElementsAre("drawn", "photo"));
  EXPECT_THAT(dataset.manifest.classes, ElementsAre("box", "cat"));
  ASSERT_EQ(dataset.train->count(), 5);
  ASSERT_EQ(dataset.validation->count(), 1);
  EXPECT_EQ(OrDie(dataset.train->ReadCaption({4, 0, 0})), "a box 5");
  EXPECT_EQ(OrDie(dataset.train->ReadCaption({2, 1, 0})), "盒子");
  EXPECT_EQ(OrDie(dataset.train->CaptionCount(1, 1)), 0);
  EXPECT_EQ(OrDie(dataset.train->ReadLabels(0)).class_id, -1);
  EXPECT_EQ(OrDie(dataset.train->ReadLabels(4)).class_id, 1);
  EXPECT_EQ(OrDie(dataset.train->ReadLabels(4)).style_id, 1);
  std::vector<uint8_t> pixels(18);
  ASSERT_TRUE(dataset.validation->ReadPixels(0, pixels).ok());
  EXPECT_EQ(pixels[17], 160 + 34);
  std::vector<int32_t> tokens(8);
  tokens.resize(static_cast<size_t>(OrDie(dataset.train->ReadTokens({0, 0, 0}, kPadId, tokens))));
  EXPECT_EQ(dataset.tokenizer->Decode(tokens), "a box 0");
}

// When the format changes on purpose, the folder that the failure names has the new version's files.
TEST(ImageFormat, WritesVersion1) {
  const TemporaryFolder folder;
  const PrepareImagesOptions options = {
      .output = folder / "new", .height = 2, .width = 3, .vocabulary_size = 262, .validation_fraction = 0.1};
  ASSERT_TRUE(PrepareImages(KeptListing(), options).ok());
  for (const char* name :
       {"train.images", "validation.images", "tokenizer.json", "tokenizer_config.json", "dataset.json"}) {
    const bool kept = std::filesystem::exists(kVersion1 + "/" + name);
    EXPECT_TRUE(kept && Slurp(absl::StrCat(kVersion1, "/", name)) == Slurp(absl::StrCat(folder / "new", "/", name)))
        << name;
  }
  if (HasFailure()) {
    const std::string copy = std::filesystem::temp_directory_path() / "image_format_written";
    std::filesystem::copy(folder / "new", copy,
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
    ADD_FAILURE() << "what was written is in " << copy;
  }
}

}  // namespace
}  // namespace angel_ptm
