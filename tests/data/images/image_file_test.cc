// Image files: what was written can be read; files that are damaged, truncated or made up give one sentence.
#include "angel_ptm/data/images/image_file.h"

#include <chrono>
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/data/images/small_set.h"
#include "tests/support/sealed_image_file.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

absl::Status ReadAll(const ImageFile& file) {
  std::vector<uint8_t> pixels(static_cast<size_t>(file.shape().pixel_bytes()));
  std::vector<int32_t> tokens(8);
  for (int64_t i = 0; i < file.count(); ++i) {
    RETURN_IF_ERROR(file.ReadPixels(i, pixels));
    RETURN_IF_ERROR(file.ReadLabels(i).status());
    for (int32_t language = 0; language < file.shape().languages; ++language) {
      ASSIGN_OR_RETURN(const int32_t captions, file.CaptionCount(i, language));
      for (int32_t c = 0; c < captions; ++c) {
        RETURN_IF_ERROR(file.ReadTokens({i, language, c}, 1, tokens).status());
        RETURN_IF_ERROR(file.ReadCaption({i, language, c}).status());
      }
    }
  }
  return absl::OkStatus();
}

TEST(ImageFile, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const auto set = SmallSet(23);
  WriteSet(folder / "a.images", set);
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  EXPECT_EQ(file->shape(), kSmallShape);
  ASSERT_EQ(file->count(), 23);
  for (int64_t i = 22; i >= 0; --i) {
    const StoredImage& wanted = set[static_cast<size_t>(i)];
    std::vector<uint8_t> pixels(wanted.image.pixels.size());
    ASSERT_TRUE(file->ReadPixels(i, pixels).ok());
    EXPECT_EQ(pixels, wanted.image.pixels);
    const ImageLabels labels = OrDie(file->ReadLabels(i));
    EXPECT_EQ(labels.class_id, wanted.labels.class_id);
    EXPECT_EQ(labels.style_id, wanted.labels.style_id);
    for (int32_t language = 0; language < 2; ++language) {
      const auto& captions = wanted.captions[static_cast<size_t>(language)];
      ASSERT_EQ(OrDie(file->CaptionCount(i, language)), static_cast<int32_t>(captions.size()));
      for (int32_t c = 0; c < static_cast<int32_t>(captions.size()); ++c) {
        const StoredCaption& caption = captions[static_cast<size_t>(c)];
        EXPECT_EQ(OrDie(file->ReadCaption({i, language, c})), caption.text);
        std::vector<int32_t> tokens(6, -1), padded = caption.tokens;
        padded.resize(6, 9);
        EXPECT_EQ(OrDie(file->ReadTokens({i, language, c}, 9, tokens)), static_cast<int32_t>(caption.tokens.size()));
        EXPECT_EQ(tokens, padded);
        tokens.resize(1);
        EXPECT_EQ(OrDie(file->ReadTokens({i, language, c}, 9, tokens)), static_cast<int32_t>(caption.tokens.size()));
        EXPECT_EQ(tokens[0], caption.tokens[0]);
      }
    }
  }
}

TEST(ImageFile, CutsFlipsAndScales) {
  const TemporaryFolder folder;
  const auto set = SmallSet(2);
  WriteSet(folder / "a.images", set);
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  for (const bool flipped : {false, true}) {
    std::vector<float> planes(3 * 2 * 4);
    ASSERT_TRUE(file->ReadPlanes(1, {.top = 2, .left = 3, .height = 2, .width = 4, .flipped = flipped}, planes).ok());
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 2; ++y) {
        for (int x = 0; x < 4; ++x) {
          const uint8_t pixel = set[1].image.at(3 + (flipped ? 3 - x : x), 2 + y)[c];
          EXPECT_EQ(planes[static_cast<size_t>((c * 2 + y) * 4 + x)], static_cast<float>(2 * pixel - 255) / 255);
        }
      }
    }
  }
}

TEST(ImageFile, EveryDamagedByteIsFound) {
  const TemporaryFolder folder;
  WriteSet(folder / "a.images", SmallSet(2));
  const std::string good = Slurp(folder / "a.images");
  for (size_t at = 0; at < good.size(); at += at < 112 ? 1 : 41) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    Spill(folder / "b.images", bad);
    EXPECT_FALSE(ImageFile::Open(folder / "b.images").ok()) << "byte " << at;
    const auto later = ImageFile::Open(folder / "b.images", {.checked_at_open_bytes_max = 0});
    EXPECT_FALSE(later.ok() && ReadAll(**later).ok()) << "byte " << at;
  }
  for (const size_t length : {size_t{0}, size_t{100}, size_t{4096}, good.size() - 1}) {
    Spill(folder / "b.images", good.substr(0, length));
    EXPECT_THAT(std::string(ImageFile::Open(folder / "b.images").status().message()),
                HasSubstr("b.images is truncated"));
  }
  Spill(folder / "b.images", good + "x");
  EXPECT_THAT(std::string(ImageFile::Open(folder / "b.images").status().message()), HasSubstr("too long"));
}

TEST(ImageFile, ChangesWhileOpenAreFound) {
  const TemporaryFolder folder;
  WriteSet(folder / "a.images", SmallSet(9));
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  const std::string good = Slurp(folder / "a.images");
  std::string bad = good;
  bad[5000] = static_cast<char>(bad[5000] ^ 1);
  Spill(folder / "a.images", bad);
  std::filesystem::last_write_time(folder / "a.images",
                                   std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
  EXPECT_THAT(std::string(ReadAll(*file).message()), HasSubstr("was changed while it was in use, and is damaged"));
  Spill(folder / "a.images", good);
  EXPECT_TRUE(ReadAll(*file).ok());
  std::filesystem::resize_file(folder / "a.images", 4500);
  EXPECT_THAT(std::string(ReadAll(*file).message()), HasSubstr("was truncated while it was in use"));
}

// The checksums of these files are correct.
TEST(ImageFile, NumbersThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  WriteSet(folder / "a.images", SmallSet(2));
  const std::string good = Slurp(folder / "a.images");
  const std::string own = good.substr(kImageOwnHeader, kImageOwnHeaderBytes);
  const std::string content = good.substr(4096, good.size() - 4096 - 8);
  const auto open = [&](const std::string& header, const std::string& bytes) {
    Spill(folder / "b.images", SealImageFile(header, bytes));
    return std::string(ImageFile::Open(folder / "b.images").status().message());
  };
  EXPECT_EQ(open(own, content), "");
  // Counts, offsets and sizes in the header. 0 is valid only for the tokenizer's checksum, the number of classes and
  // the padding.
  for (size_t field = 0; field < kImageOwnHeaderBytes; field += 4) {
    if ((field >= 16 && field < 24) || field == 52) continue;
    for (const uint32_t value : {0u, 1u << 20, ~0u}) {
      if ((field == 44 || field == 40 || field == 48) && value == 1u << 20) continue;
      if (field % 8 == 4 && field < 16 && value == 0) continue;  // upper half of a count
      std::string header = own;
      std::memcpy(header.data() + field, &value, sizeof(value));
      EXPECT_THAT(open(header, content), HasSubstr("was not written by angel-ptm prepare")) << field << " " << value;
    }
  }
  // The record after the first image's pixels: labels, counts, tokens, lengths.
  const size_t record = static_cast<size_t>(kSmallShape.pixel_bytes());
  for (size_t at = record; at < record + 28; at += 4) {
    std::string bytes = content;
    const uint32_t value = 0x7fffffff;
    std::memcpy(bytes.data() + at, &value, sizeof(value));
    EXPECT_THAT(open(own, bytes), HasSubstr("was not written by angel-ptm prepare")) << at - record;
    const auto later = ImageFile::Open(folder / "b.images", {.checked_at_open_bytes_max = 0});
    EXPECT_FALSE(later.ok() && ReadAll(**later).ok()) << at - record;
    EXPECT_TRUE(at != record + 16 || !(*later)->ReadCaption({0, 0, 0}).ok());  // its number of tokens
  }
}

TEST(ImageFile, OtherFilesAreNamed) {
  const TemporaryFolder folder;
  Spill(folder / "b.images", std::string(5000, 'x'));
  EXPECT_THAT(std::string(ImageFile::Open(folder / "b.images").status().message()),
              HasSubstr("b.images is not an angel-ptm image file"));
  std::string file = SealImageFile(std::string(56, '\0'), "");
  file[8] = 2;
  Spill(folder / "b.images", file);
  EXPECT_THAT(std::string(ImageFile::Open(folder / "b.images").status().message()),
              HasSubstr("has format version 2, this program reads version 1"));
}

}  // namespace
}  // namespace angel_ptm
