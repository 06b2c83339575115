// Sources of images, and the folders prepared from them.
#include "angel_ptm/data/images/prepare_images.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/edges.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kLanguages = {"en", "zh"};

std::string Png(uint8_t red, int32_t width = 8, int32_t height = 8) {
  Image image = MakeImage(width, height, 3);
  for (size_t i = 0; i < image.pixels.size(); i += 3) image.pixels[i] = red;
  return OrDie(EncodePng(image));
}

std::string ErrorOf(const absl::StatusOr<ImageListing>& listing) { return std::string(listing.status().message()); }

std::string TarMember(const std::string& name, const std::string& content, char type = '0') {
  std::string header(512, '\0');
  name.copy(header.data(), 100);
  absl::StrFormat("%011o", content.size()).copy(header.data() + 124, 11);
  header[156] = type;
  std::memcpy(header.data() + 257, "ustar", 5);
  header.replace(148, 8, 8, ' ');
  int sum = 0;
  for (const char c : header) sum += static_cast<uint8_t>(c);
  absl::StrFormat("%06o", sum).copy(header.data() + 148, 6);
  header[154] = '\0';
  std::string padded = content;
  padded.resize((content.size() + 511) / 512 * 512);
  return header + padded;
}

TEST(ImageFolder, CaptionsStandBesideImages) {
  const TemporaryFolder folder;
  Spill(folder / "in/b.png", Png(2));
  Spill(folder / "in/b.txt", "\xEF\xBB\xBF  a box \n\nsomething red\r\n");
  Spill(folder / "in/b.zh.txt", "盒子\n");
  Spill(folder / "in/a/c.PNG", Png(1));
  Spill(folder / "in/a/c.zh.txt", "猫");
  Spill(folder / "in/notes.md", "none of ours");
  Spill(folder / "in/.hidden.png", "x");
  const ImageListing listing = OrDie(ListImageFolders({folder / "in"}, kLanguages));
  ASSERT_EQ(listing.items.size(), 2U);
  EXPECT_EQ(listing.items[0].name, folder / "in/a/c.PNG");
  EXPECT_THAT(listing.items[0].captions, ElementsAre(ElementsAre(), ElementsAre("猫")));
  EXPECT_THAT(listing.items[1].captions, ElementsAre(ElementsAre("a box", "something red"), ElementsAre("盒子")));
  EXPECT_EQ(OrDie(listing.items[1].load()).at(3, 3)[0], 2);
}

TEST(ImageFolder, MetadataNamesImages) {
  const TemporaryFolder folder;
  Spill(folder / "in/a.png", Png(1));
  Spill(folder / "in/b.png", Png(2));
  Spill(folder / "in/metadata.jsonl",
        "{\"file_name\": \"b.png\", \"text\": \"b\", \"zh\": [\"乙\", \"二\"], \"class\": \"letter\", \"style\": "
        "\"drawn\"}\n\n{\"file_name\": \"a.png\", \"en\": \"a\", \"class\": \"first\"}\n");
  const ImageListing listing = OrDie(ListImageFolders({folder / "in"}, kLanguages));
  ASSERT_EQ(listing.items.size(), 2U);
  EXPECT_THAT(listing.items[0].captions, ElementsAre(ElementsAre("b"), ElementsAre("乙", "二")));
  EXPECT_EQ(listing.items[0].labels.class_id, 0);
  EXPECT_EQ(listing.items[0].labels.style_id, 1);
  EXPECT_EQ(listing.items[1].labels.class_id, 1);
  EXPECT_THAT(listing.classes, ElementsAre("letter", "first"));
  EXPECT_THAT(listing.styles, ElementsAre("default", "drawn"));
}

TEST(ImageFolder, TarFilesOfWebDataset) {
  const TemporaryFolder folder;
  const std::string deep(130, 'd');
  const std::string tar =
      TarMember("x/", "", '5') + TarMember("x/1.v2.png", Png(7)) +
      TarMember("x/1.en.txt", "no: the key ends at the first dot") + TarMember("x/2.jpg", "broken") +
      TarMember("x/2.cls", "7\n") + TarMember("x/2.json", "{\"caption\": \"two\", \"zh\": \"二\"}") +
      TarMember("ignored", absl::StrFormat("%d path=%s/3.png\n", 146, deep), 'x') + TarMember("short", Png(9)) +
      TarMember("././@LongLink", deep + "/3.txt", 'L') + TarMember("short", "three") + std::string(1024, '\0');
  Spill(folder / "a.tar", tar);
  const ImageListing listing = OrDie(ListImageFolders({folder / "a.tar"}, kLanguages));
  ASSERT_EQ(listing.items.size(), 2U);
  EXPECT_EQ(listing.items[0].name, folder / "a.tar: x/2");
  EXPECT_THAT(listing.items[0].captions, ElementsAre(ElementsAre("two"), ElementsAre("二")));
  EXPECT_THAT(listing.classes, ElementsAre("7"));
  EXPECT_EQ(listing.items[0].labels.class_id, 0);
  EXPECT_THAT(std::string(listing.items[0].load().status().message()), HasSubstr("a.tar: x/2.jpg is neither a PNG"));
  EXPECT_EQ(listing.items[1].captions[0][0], "three");
  EXPECT_EQ(OrDie(listing.items[1].load()).at(0, 0)[0], 9);
  std::string bad = tar;
  bad[512 + 20] = 'y';
  Spill(folder / "a.tar", bad);
  EXPECT_THAT(ErrorOf(ListImageFolders({folder / "a.tar"}, kLanguages)),
              HasSubstr("a.tar is a damaged tar file: the header at byte 512 has another checksum"));
  Spill(folder / "a.tar", tar.substr(0, 1100));
  EXPECT_THAT(ErrorOf(ListImageFolders({folder / "a.tar"}, kLanguages)), HasSubstr("a.tar is a damaged tar file"));
  Spill(folder / "a.tar", "no tar");
  EXPECT_THAT(ErrorOf(ListImageFolders({folder / "a.tar"}, kLanguages)), HasSubstr("a.tar is not a whole tar file"));
}

// Each folder is listed once; folders reached without a link keep their own names; tar files count as if named. A link
// to nothing is an error, since an image may be missing.
TEST(ImageFolder, LinksAndTarFilesBelow) {
  const TemporaryFolder folder;
  Spill(folder / "in/d/b.png", Png(2));
  Spill(folder / "in/d/b.txt", "two");
  Spill(folder / "else/c.png", Png(3));
  Spill(folder / "else/c.txt", "three");
  Spill(folder / "in/e/x.tar",
        TarMember("1.png", Png(1)) + TarMember("1.json", R"({"text": "one", "class": 7})") + std::string(1024, '\0'));
  std::filesystem::create_directory_symlink("d", folder / "in/a");
  std::filesystem::create_directory_symlink("..", folder / "in/d/up");
  std::filesystem::create_directory_symlink(folder / "else", folder / "in/f");
  std::filesystem::create_symlink("nothing", folder / "in/gone.png");
  EXPECT_THAT(ErrorOf(ListImageFolders({folder / "in"}, kLanguages)), HasSubstr("in/gone.png: No such file"));
  std::filesystem::remove(folder / "in/gone.png");
  const ImageListing listing = OrDie(ListImageFolders({folder / "in"}, kLanguages));
  std::vector<std::string> names;
  for (const ImageItem& item : listing.items) names.push_back(item.name);
  EXPECT_THAT(names, ElementsAre(folder / "in/d/b.png", folder / "in/e/x.tar: 1", folder / "in/f/c.png"));
  EXPECT_THAT(listing.classes, ElementsAre("7"));
  EXPECT_EQ(listing.items[1].labels.class_id, 0);
}

// Sets come in thousands of tar files, of which a process may not have so many open.
TEST(ImageFolder, TarFilesAreNotAllOpen) {
  const TemporaryFolder folder;
  constexpr int kTars = 100;
  for (int i = 0; i < kTars; ++i) {
    Spill(absl::StrCat(folder / "in/", i, ".tar"),
          TarMember("1.png", Png(static_cast<uint8_t>(i))) + TarMember("1.txt", "one") + std::string(1024, '\0'));
  }
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const absl::StatusOr<ImageListing> listing = ListImageFolders({folder / "in"}, kLanguages);
  std::vector<absl::StatusOr<Image>> images;
  if (listing.ok()) {
    for (const ImageItem& item : listing->items) images.push_back(item.load());
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  OrDie(listing.status());
  ASSERT_EQ(images.size(), static_cast<size_t>(kTars));
  EXPECT_EQ(OrDie(images[1]).pixels[0], 1);  // of 1.tar, which comes behind 0.tar
}

// A folder or a tar file that is mostly of them would be a small set without a word.
TEST(ImageFolder, ImagesOfOtherFormatsAreCounted) {
  const TemporaryFolder folder;
  const std::string tar = TarMember("1.webp", "RIFF") + TarMember("1.txt", "one") + TarMember("2.GIF", "GIF89a") +
                          TarMember("2.txt", "two") + std::string(1024, '\0');
  Spill(folder / "in/a.tar", tar);
  Spill(folder / "in/b.webp", "RIFF");
  Spill(folder / "in/b.txt", "a box");
  EXPECT_THAT(ErrorOf(ListImageFolders({folder / "in"}, kLanguages)),
              HasSubstr("; left out, since they are neither PNG nor JPEG: 1 .gif, 2 .webp"));
  Spill(folder / "in/c.png", Png(1));
  Spill(folder / "in/c.txt", "a box");
  const ImageListing listing = OrDie(ListImageFolders({folder / "in"}, kLanguages));
  EXPECT_EQ(listing.items.size(), 1U);
  EXPECT_EQ(listing.note, "left out, since they are neither PNG nor JPEG: 1 .gif, 2 .webp");
}

TEST(ImageFolder, EveryErrorIsOneSentence) {
  const TemporaryFolder folder;
  const auto error = [&] { return ErrorOf(ListImageFolders({folder / "in"}, kLanguages)); };
  EXPECT_THAT(error(), HasSubstr("/in"));
  std::filesystem::create_directories(folder / "in");
  EXPECT_THAT(error(), HasSubstr("there are no PNG, JPEG or tar files with images in 1 input, "));
  Spill(folder / "in/a.png", Png(1));
  EXPECT_THAT(error(), HasSubstr("a.png has no caption, wanted "));
  Spill(folder / "in/a.txt", " \n");
  EXPECT_THAT(error(), HasSubstr("a.txt: a caption should say something, got an empty one"));
  Spill(folder / "in/a.txt", "ab\xff");
  EXPECT_THAT(error(), HasSubstr("a.txt: a caption should be UTF-8, got another byte behind 2 that are"));
  Spill(folder / "in/metadata.jsonl", "{\"file_name\": \"a.png\"}");
  EXPECT_THAT(error(), HasSubstr("a.png has no caption, wanted \"text\" in "));
  Spill(folder / "in/metadata.jsonl", "{\"file_name\": \"a.png\", \"text\": 3}");
  EXPECT_THAT(error(), HasSubstr("metadata.jsonl line 1: a caption should be a text"));
  Spill(folder / "in/metadata.jsonl", "\n[1]");
  EXPECT_THAT(error(), HasSubstr("metadata.jsonl line 2 should be a JSON object"));
}

// Ten images of different shapes, named 0 to 9.
ImageListing TenImages() {
  ImageListing listing = {.languages = kLanguages, .styles = {"a"}, .classes = {}, .items = {}, .note = ""};
  for (int i = 0; i < 10; ++i) {
    listing.items.push_back({.name = absl::StrCat("image ", i),
                             .captions = {{absl::StrCat("number ", i)}, {absl::StrCat("数字 ", i), "数"}},
                             .load = [i]() -> absl::StatusOr<Image> {
                               if (i % 4 == 1) return absl::InvalidArgumentError(absl::StrCat("image ", i, " is bad"));
                               Image image = MakeImage(6 + i, 6, 4);
                               for (size_t k = 3; k < image.pixels.size(); k += 4) image.pixels[k] = 255;
                               return image;
                             }});
  }
  return listing;
}

TEST(PrepareImages, MakesADataset) {
  const TemporaryFolder folder;
  PrepareImagesOptions options = {.output = folder / "out",
                                  .height = 6,
                                  .width = 8,
                                  .damaged_max = 3,
                                  .vocabulary_size = 270,
                                  .validation_fraction = 0.2,
                                  .seed = 1};
  const PrepareImagesReport report = OrDie(PrepareImages(TenImages(), options));
  EXPECT_THAT(report.damaged, testing::UnorderedElementsAre("image 1 is bad", "image 5 is bad", "image 9 is bad"));
  EXPECT_THAT(report.ToString(), HasSubstr("3 damaged images were left out"));
  const ImageDataset dataset = OrDie(OpenImageDataset(folder / "out"));
  EXPECT_EQ(dataset.train->count() + dataset.validation->count(), 7);
  EXPECT_GE(dataset.train->count(), 5);
  EXPECT_EQ(dataset.manifest.skipped, 3);
  EXPECT_EQ(OrDie(dataset.train->CaptionCount(0, 1)), 2);
  const std::string caption = OrDie(dataset.train->ReadCaption({0, 1, 0}));
  std::vector<int32_t> tokens(32);
  const int32_t length = OrDie(dataset.train->ReadTokens({0, 1, 0}, kPadId, tokens));
  tokens.resize(static_cast<size_t>(length));
  EXPECT_EQ(dataset.tokenizer->Decode(tokens), caption);
  EXPECT_LE(length, dataset.manifest.caption_tokens_max);
  std::vector<uint8_t> pixels(6 * 8 * 3);
  for (int64_t i = 0; i < dataset.train->count(); ++i) {
    // Only number 2 has the requested shape; the others get white at the right or at the bottom.
    ASSERT_TRUE(dataset.train->ReadPixels(i, pixels).ok());
    EXPECT_EQ(pixels.back(), OrDie(dataset.train->ReadCaption({i, 0, 0})) == "number 2" ? 0 : 255) << i;
    EXPECT_EQ(pixels[(3 * 8 + 4) * 3], 0);
  }
  // Another set in the same folder replaces the first.
  options.channels = 1;
  options.keep = {"number 2", "number 3", "*4"};
  options.leave_out = {"*3"};
  options.validation_fraction = 0;
  ASSERT_TRUE(PrepareImages(TenImages(), options).ok());
  const ImageDataset again = OrDie(OpenImageDataset(folder / "out"));
  EXPECT_EQ(again.train->count(), 2);
  EXPECT_EQ(again.validation, nullptr);
  EXPECT_EQ(again.manifest.shape.channels, 1);
  options.keep = {};
  options.leave_out = {};
  options.images_max = 3;
  options.damaged_max = 10;
  EXPECT_EQ(OrDie(PrepareImages(TenImages(), options)).manifest.train_images, 3);  // 0, 3 and 6
}

// Images that a list names but that are missing count as damaged.
TEST(PrepareImages, MissingImagesAreCounted) {
  const TemporaryFolder folder;
  Spill(folder / "in/a.png", Png(1));
  Spill(folder / "in/metadata.jsonl",
        "{\"file_name\": \"a.png\", \"text\": \"a\"}\n{\"file_name\": \"gone.png\", \"text\": \"b\"}\n");
  const ImageListing listing = OrDie(ListImageFolders({folder / "in"}, kLanguages));
  PrepareImagesOptions options = {
      .output = folder / "out", .height = 8, .width = 8, .damaged_max = 1, .vocabulary_size = 258};
  const PrepareImagesReport report = OrDie(PrepareImages(listing, options));
  EXPECT_EQ(report.manifest.train_images, 1);
  EXPECT_THAT(report.damaged, ElementsAre(HasSubstr("gone.png: No such file")));
  options.damaged_max = 0;
  EXPECT_THAT(std::string(PrepareImages(listing, options).status().message()),
              HasSubstr("gone.png: No such file or directory; data.prepare.images.damaged_max allows 0 such images"));
}

// The same images in the same order, as edges.
TEST(PrepareImages, EdgesStandInTheImagesPlaces) {
  const TemporaryFolder folder;
  PrepareImagesOptions options = {
      .output = folder / "images", .height = 6, .width = 8, .damaged_max = 3, .validation_fraction = 0.2, .seed = 1};
  OrDie(PrepareImages(TenImages(), options).status());
  options.output = folder / "edges";
  options.edges = true;
  OrDie(PrepareImages(TenImages(), options).status());
  const ImageDataset images = OrDie(OpenImageDataset(folder / "images"));
  const ImageDataset edges = OrDie(OpenImageDataset(folder / "edges"));
  ASSERT_EQ(edges.train->count(), images.train->count());
  int64_t white = 0;
  for (int64_t i = 0; i < images.train->count(); ++i) {
    EXPECT_EQ(OrDie(edges.train->ReadCaption({i, 0, 0})), OrDie(images.train->ReadCaption({i, 0, 0})));
    Image image = MakeImage(8, 6, 3), of_edges = MakeImage(8, 6, 3);
    OrDie(images.train->ReadPixels(i, image.pixels));
    OrDie(edges.train->ReadPixels(i, of_edges.pixels));
    EXPECT_EQ(of_edges.pixels, EdgeMap(image).pixels);
    white += std::count(of_edges.pixels.begin(), of_edges.pixels.end(), 255);
  }
  EXPECT_GT(white, 0);
}

TEST(PrepareImages, ErrorsLeaveTheEarlierDataset) {
  const TemporaryFolder folder;
  PrepareImagesOptions options = {.output = folder / "out", .height = 4, .width = 4, .damaged_max = 3};
  ASSERT_TRUE(PrepareImages(TenImages(), options).ok());
  options.damaged_max = 1;
  EXPECT_EQ(PrepareImages(TenImages(), options).status().message(),
            "image 5 is bad; data.prepare.images.damaged_max allows 1 such images, this is number 2");
  options.keep = {"nothing"};
  EXPECT_EQ(PrepareImages(TenImages(), options).status().message(),
            "no image is left for training: of 10 images, 0 fit the patterns and 0 are held out");
  EXPECT_EQ(OrDie(OpenImageDataset(folder / "out")).train->count(), 7);
}

TEST(PrepareImages, OtherFoldersAreNamed) {
  const TemporaryFolder folder;
  const auto error = [&] { return std::string(OpenImageDataset(folder / "out").status().message()); };
  EXPECT_THAT(error(), HasSubstr("is not a finished dataset: it has no dataset.json"));
  ASSERT_TRUE(PrepareImages(TenImages(), {.output = folder / "out", .height = 4, .width = 4, .damaged_max = 3}).ok());
  EXPECT_THAT(std::string(OpenTextDataset(folder / "out", 8).status().message()),
              HasSubstr("format should be \"angel-ptm text dataset\""));
  const std::string tokenizer = Slurp(folder / "out/tokenizer.json");
  Spill(folder / "out/tokenizer.json", tokenizer + " ");
  EXPECT_THAT(error(), HasSubstr("tokenizer.json does not belong to its folder's dataset.json"));
  Spill(folder / "out/tokenizer.json", tokenizer);
  ASSERT_TRUE(PrepareImages(TenImages(), {.output = folder / "b", .height = 5, .width = 4, .damaged_max = 3}).ok());
  std::filesystem::copy_file(folder / "b/train.images", folder / "out/train.images",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(error(), HasSubstr("train.images does not belong to its folder's dataset.json"));
  Spill(folder / "out/dataset.json", DatasetManifest().ToJson());
  EXPECT_THAT(error(), HasSubstr("format should be \"angel-ptm image dataset\", got \"angel-ptm text dataset\""));
}

void WriteCldr(const std::string& folder) {
  const std::string head = "<?xml version=\"1.0\"?><ldml><annotations>\n", tail = "</annotations></ldml>\n";
  const auto entry = [](const std::string& cp, const std::string& keywords, const std::string& name) {
    return absl::StrCat("<annotation cp=\"", cp, "\">", keywords, "</annotation>\n<annotation cp=\"", cp,
                        "\" type=\"tts\">", name, "</annotation>\n");
  };
  Spill(folder + "/annotations/en.xml", head + entry("😀", "face | grin | grinning face", "grinning face") +
                                            entry("&amp;", "and", "ampersand") +
                                            entry("❤\uFE0F", "heart", "red heart") + entry("👩", "woman", "woman") +
                                            entry("🐱", "cat", "only English") + tail);
  Spill(folder + "/annotations/zh.xml", head + entry("😀", "嘿嘿 | 脸", "嘿嘿") + entry("&amp;", "和", "和号") +
                                            entry("❤", "心", "红心") + entry("👩", "女", "女人") + tail);
  Spill(folder + "/annotationsDerived/en.xml",
        head + entry("👩‍🚀", "astronaut | woman", "woman astronaut") + tail);
  Spill(folder + "/annotationsDerived/zh.xml", head + entry("👩‍🚀", "女人", "女宇航员") + tail);
}

TEST(Emoji, NamesAndPictures) {
  const char* font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
  if (!std::filesystem::exists(font)) GTEST_SKIP() << "fonts-noto-color-emoji is not installed";
  const TemporaryFolder folder;
  WriteCldr(folder / "cldr");
  Spill(folder / "drawn/1F600.png", Png(5));
  Spill(folder / "drawn/emoji_u1f469_200d_1f680.png", Png(6));
  Spill(folder / "drawn/2764-FE0F.png", Png(7));
  Spill(folder / "drawn/other.png", Png(6));
  const ImageListing listing = OrDie(ListEmoji({"cldr=" + (folder / "cldr"), "drawn=" + (folder / "drawn")}));
  EXPECT_THAT(listing.styles, ElementsAre("NotoColorEmoji", "drawn"));
  std::vector<std::string> names;
  for (const ImageItem& item : listing.items) names.push_back(absl::StrCat(item.name, " ", item.labels.style_id));
  EXPECT_THAT(names, ElementsAre("1f600 0", "1f600 1", "2764 0", "2764 1", "1f469 0", "1f469-200d-1f680 0",
                                 "1f469-200d-1f680 1"));
  EXPECT_THAT(listing.items[0].captions,
              ElementsAre(ElementsAre("grinning face", "grinning face: face, grin"), ElementsAre("嘿嘿", "嘿嘿: 脸")));
  EXPECT_EQ(listing.note, "1 names of CLDR have no picture");
  // A yellow face on white.
  const Image face = OrDie(listing.items[0].load());
  EXPECT_EQ(face.at(0, 0)[2], 255);
  const uint8_t* forehead = face.at(face.width / 2, face.height / 6);
  EXPECT_GT(forehead[0], 200);
  EXPECT_GT(forehead[1], 120);
  EXPECT_LT(forehead[2], 120);
  EXPECT_NE(OrDie(listing.items[4].load()).pixels, OrDie(listing.items[5].load()).pixels);
  EXPECT_EQ(OrDie(listing.items[1].load()).at(0, 0)[0], 5);
}

TEST(Emoji, EveryErrorIsOneSentence) {
  const TemporaryFolder folder;
  const std::string cldr = "cldr=" + (folder / "cldr");
  EXPECT_THAT(ErrorOf(ListEmoji({"noname"})),
              HasSubstr("should be font=FILE, cldr=FOLDER or STYLE=FOLDER, got noname"));
  EXPECT_THAT(ErrorOf(ListEmoji({cldr})), HasSubstr("install unicode-cldr-core, or give its folder as cldr="));
  WriteCldr(folder / "cldr");
  EXPECT_THAT(ErrorOf(ListEmoji({cldr, "font=" + (folder / "none.ttf")})),
              HasSubstr("none.ttf is not there; install fonts-noto-color-emoji"));
  Spill(folder / "bad.ttf", "no font");
  EXPECT_THAT(ErrorOf(ListEmoji({cldr, "font=" + (folder / "bad.ttf")})),
              HasSubstr("bad.ttf cannot be read as a font"));
  Spill(folder / "cldr/annotations/zh.xml", "<ldml/>");
  EXPECT_THAT(ErrorOf(ListEmoji({cldr})), HasSubstr("zh.xml is not a file of CLDR annotations"));
}

TEST(Tuxpaint, SentencesInTwoLanguages) {
  const TemporaryFolder folder;
  Spill(folder / "s/animals/birds/duck.png", Png(3));
  Spill(folder / "s/animals/birds/duck.txt", "A duck.\naf.utf8='n Eend.\nzh_CN.utf8=鸭子。\nzh_TW.utf8=鴨子。\n");
  Spill(folder / "s/town/bus.png", Png(4));
  Spill(folder / "s/town/bus.txt", "A bus.");
  Spill(folder / "s/town/unnamed.png", Png(4));
  const ImageListing listing = OrDie(ListTuxpaintStamps({folder / "s"}));
  ASSERT_EQ(listing.items.size(), 2U);
  EXPECT_THAT(listing.classes, ElementsAre("animals", "town"));
  EXPECT_THAT(listing.items[0].captions, ElementsAre(ElementsAre("A duck."), ElementsAre("鸭子。")));
  EXPECT_THAT(listing.items[1].captions, ElementsAre(ElementsAre("A bus."), ElementsAre()));
  EXPECT_EQ(listing.items[1].labels.class_id, 1);
  EXPECT_EQ(listing.note, "1 stamps have no text");
  EXPECT_THAT(ErrorOf(ListTuxpaintStamps({folder / "none"})), HasSubstr("install tuxpaint-stamps-default"));
}

TEST(FashionMnist, WrongFilesAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(ErrorOf(ListFashionMnist({folder / "none"})), HasSubstr("install dataset-fashion-mnist"));
  EXPECT_THAT(ErrorOf(ListFashionMnist({folder.path()})), HasSubstr("train-images-idx3-ubyte.gz"));
  Spill(folder / "train-images-idx3-ubyte.gz", std::string("\0\0\x08\x03\0\0\0\x05\0\0\0\x1c\0\0\0\x1c", 16));
  EXPECT_THAT(ErrorOf(ListFashionMnist({folder.path()})), HasSubstr("extent 0, wanted 60000, got 5"));
}

}  // namespace
}  // namespace angel_ptm
