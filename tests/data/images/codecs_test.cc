// Images of every kind that the libraries may meet, damaged ones, and sheets of images.
#include "angel_ptm/data/images/codecs.h"

#include <jpeglib.h>
#include <png.h>
#include <stdio.h>  // jpeglib.h needs it

#include <algorithm>
#include <filesystem>

#include "angel_ptm/data/images/contact_sheet.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

struct PngKind {
  int width, height, depth, type;
  std::vector<png_color> palette = {};
  std::vector<uint8_t> alphas = {};
};

// rows: in libpng's layout, 16-bit samples with the high byte first.
std::string MakePng(const PngKind& kind, const std::vector<uint8_t>& rows) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  std::string file;
  png_set_write_fn(
      png, &file,
      [](png_structp p, png_bytep data, size_t bytes) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), bytes);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(kind.width), static_cast<png_uint_32>(kind.height), kind.depth,
               kind.type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!kind.palette.empty()) png_set_PLTE(png, info, kind.palette.data(), static_cast<int>(kind.palette.size()));
  if (!kind.alphas.empty()) png_set_tRNS(png, info, kind.alphas.data(), static_cast<int>(kind.alphas.size()), nullptr);
  png_write_info(png, info);
  const size_t row_bytes = rows.size() / static_cast<size_t>(kind.height);
  for (int y = 0; y < kind.height; ++y) png_write_row(png, rows.data() + static_cast<size_t>(y) * row_bytes);
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return file;
}

std::string MakeJpeg(const Image& image, J_COLOR_SPACE space, bool adobe = false) {
  jpeg_compress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = static_cast<JDIMENSION>(image.width);
  jpeg.image_height = static_cast<JDIMENSION>(image.height);
  jpeg.input_components = image.channels;
  jpeg.in_color_space = space;
  jpeg_set_defaults(&jpeg);
  jpeg.write_Adobe_marker = adobe ? TRUE : FALSE;
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  for (int32_t y = 0; y < image.height; ++y) {
    JSAMPROW row = const_cast<uint8_t*>(image.at(0, y));
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string file(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&jpeg);
  free(bytes);
  return file;
}

Image Filled(int32_t width, int32_t height, const std::vector<uint8_t>& pixel) {
  Image image = MakeImage(width, height, static_cast<int32_t>(pixel.size()));
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = pixel[i % pixel.size()];
  return image;
}

std::string Error(std::string_view bytes) { return std::string(DecodeImage(bytes, "a.png").status().message()); }

TEST(Png, WritesWhatItReads) {
  for (int32_t channels = 1; channels <= 4; ++channels) {
    Image image = MakeImage(13, 7, channels);
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * 37);
    const Image read = OrDie(DecodeImage(OrDie(EncodePng(image)), "a.png"));
    EXPECT_EQ(read.width, 13);
    EXPECT_EQ(read.height, 7);
    EXPECT_EQ(read.channels, channels);
    EXPECT_EQ(read.pixels, image.pixels);
  }
  const TemporaryFolder folder;
  ASSERT_TRUE(WritePng(folder / "a.png", Filled(2, 2, {1, 2, 3})).ok());
  EXPECT_EQ(OrDie(DecodeImage(Slurp(folder / "a.png"), "a.png")).pixels, Filled(2, 2, {1, 2, 3}).pixels);
  EXPECT_THAT(std::string(WritePng(folder / "none/a.png", Filled(2, 2, {1})).message()), HasSubstr("none/a.png"));
}

TEST(Png, OddKindsBecome8Bits) {
  const Image deep = OrDie(DecodeImage(
      MakePng({2, 1, 16, PNG_COLOR_TYPE_RGB}, {0x12, 0x34, 0x80, 0x80, 0xff, 0xff, 0, 0, 0x40, 0x40, 1, 1}), "a.png"));
  EXPECT_EQ(deep.channels, 3);
  EXPECT_THAT(deep.pixels, ElementsAre(0x12, 0x80, 0xff, 0, 0x40, 1));
  const Image palette = OrDie(DecodeImage(
      MakePng({4, 1, 2, PNG_COLOR_TYPE_PALETTE, {{9, 8, 7}, {200, 100, 50}}, {0, 255}}, {0b00010100}), "a.png"));
  EXPECT_EQ(palette.channels, 4);
  EXPECT_EQ(palette.at(1, 0)[0], 200);
  EXPECT_EQ(palette.at(1, 0)[3], 255);
  EXPECT_EQ(palette.at(0, 0)[3], 0);
  const Image bits = OrDie(DecodeImage(MakePng({8, 1, 1, PNG_COLOR_TYPE_GRAY}, {0b10100001}), "a.png"));
  EXPECT_EQ(bits.channels, 1);
  EXPECT_THAT(bits.pixels, ElementsAre(255, 0, 255, 0, 0, 0, 0, 255));
  const Image grey_alpha = OrDie(DecodeImage(MakePng({1, 1, 16, PNG_COLOR_TYPE_GRAY_ALPHA}, {77, 77, 128, 128}), "a"));
  EXPECT_EQ(grey_alpha.channels, 2);
  EXPECT_THAT(grey_alpha.pixels, ElementsAre(77, 128));
}

TEST(Jpeg, ColourGreyAndInks) {
  const Image colour = OrDie(DecodeImage(MakeJpeg(Filled(16, 8, {200, 40, 90}), JCS_RGB), "a.jpg"));
  EXPECT_EQ(colour.channels, 3);
  EXPECT_NEAR(colour.at(5, 5)[0], 200, 3);
  EXPECT_NEAR(colour.at(5, 5)[1], 40, 3);
  EXPECT_NEAR(colour.at(5, 5)[2], 90, 3);
  const Image grey = OrDie(DecodeImage(MakeJpeg(Filled(9, 3, {77}), JCS_GRAYSCALE), "a.jpg"));
  EXPECT_EQ(grey.channels, 1);
  EXPECT_NEAR(grey.at(4, 1)[0], 77, 2);
  for (const bool adobe : {false, true}) {
    // Half cyan, no magenta, full yellow, a fifth black; Adobe's files store 255 minus these.
    std::vector<uint8_t> inks = {128, 0, 255, 51};
    if (adobe) {
      for (uint8_t& ink : inks) ink = static_cast<uint8_t>(255 - ink);
    }
    const Image image = OrDie(DecodeImage(MakeJpeg(Filled(8, 8, inks), JCS_CMYK, adobe), "a.jpg"));
    EXPECT_EQ(image.channels, 3);
    EXPECT_NEAR(image.at(3, 3)[0], 127 * 204 / 255, 3);
    EXPECT_NEAR(image.at(3, 3)[1], 204, 3);
    EXPECT_NEAR(image.at(3, 3)[2], 0, 3);
  }
}

// Inserts an APP1 segment after the start of the file.
std::string WithOrientation(const std::string& jpeg, uint8_t orientation, bool little) {
  std::string tiff = little ? std::string("II*\0\x08\0\0\0", 8) : std::string("MM\0*\0\0\0\x08", 8);
  const auto number = [&](uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) tiff += static_cast<char>(value >> 8 * (little ? i : bytes - 1 - i));
  };
  number(2, 2);
  for (const uint32_t tag : {0x0100, 0x0112}) {
    number(tag, 2);
    number(3, 2);
    number(1, 4);
    number(tag == 0x0112 ? orientation : 2, 2);
    number(0, 2);
  }
  number(0, 4);
  const std::string body = std::string("Exif\0\0", 6) + tiff;
  const size_t length = body.size() + 2;
  return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) + static_cast<char>(length) + body +
         jpeg.substr(2);
}

TEST(Jpeg, IsTurnedAsExifSays) {
  // The image gets darker to the right and to the bottom, so that its corners show how it was turned.
  Image image = MakeImage(32, 16, 1);
  for (int32_t y = 0; y < 16; ++y) {
    for (int32_t x = 0; x < 32; ++x) *image.at(x, y) = x < 16 ? (y < 8 ? 240 : 160) : (y < 8 ? 80 : 0);
  }
  const std::string jpeg = MakeJpeg(image, JCS_GRAYSCALE);
  // For orientations 1 to 8: the corners by rows, from the top left.
  const std::vector<std::vector<int>> corners = {{240, 80, 160, 0}, {80, 240, 0, 160}, {0, 160, 80, 240},
                                                 {160, 0, 240, 80}, {240, 160, 80, 0}, {160, 240, 0, 80},
                                                 {0, 80, 160, 240}, {80, 0, 240, 160}};
  for (uint8_t orientation = 1; orientation <= 8; ++orientation) {
    for (const bool little : {false, true}) {
      const Image turned = OrDie(DecodeImage(WithOrientation(jpeg, orientation, little), "a.jpg"));
      EXPECT_EQ(turned.width, orientation < 5 ? 32 : 16);
      const int32_t right = turned.width - 1, bottom = turned.height - 1;
      const std::vector<int> got = {*turned.at(0, 0), *turned.at(right, 0), *turned.at(0, bottom),
                                    *turned.at(right, bottom)};
      for (size_t i = 0; i < 4; ++i) {
        EXPECT_NEAR(got[i], corners[orientation - 1U][i], 4) << static_cast<int>(orientation) << " corner " << i;
      }
    }
  }
  EXPECT_EQ(OrDie(DecodeImage(WithOrientation(jpeg, 9, true), "a.jpg")).width, 32);
}

TEST(Damaged, FilesAreOneSentence) {
  EXPECT_EQ(Error(""), "a.png is empty");
  EXPECT_EQ(Error("GIF89a"), "a.png is neither a PNG nor a JPEG");
  Image noise = MakeImage(40, 40, 3);
  for (size_t i = 0; i < noise.pixels.size(); ++i) noise.pixels[i] = static_cast<uint8_t>(i * i * 31 >> 3);
  const std::string png = OrDie(EncodePng(noise)), jpeg = MakeJpeg(noise, JCS_RGB);
  for (const std::string* good : {&png, &jpeg}) {
    const char* kind = good == &png ? "PNG" : "JPEG";
    for (size_t length = 4; length < good->size() - 16; length += 97) {
      EXPECT_THAT(Error(std::string_view(*good).substr(0, length)),
                  HasSubstr(std::string("a.png is a damaged ") + kind))
          << length;
    }
  }
  std::string bad = png;
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
  EXPECT_THAT(Error(bad), HasSubstr("damaged PNG"));
  for (const std::string* good : {&png, &jpeg}) {
    EXPECT_THAT(std::string(DecodeImage(*good, "big", {.pixels_max = 1599}).status().message()),
                HasSubstr("big has 40 x 40 pixels, wanted from 1 to 1599 in all"));
  }
}

// The decoders return whatever bytes change.
TEST(Damaged, RandomChangesReturn) {
  const Image image = Filled(24, 24, {100, 150, 200});
  uint32_t state = 1;
  for (const std::string& good : {OrDie(EncodePng(image)), WithOrientation(MakeJpeg(image, JCS_RGB), 6, true)}) {
    for (int round = 0; round < 300; ++round) {
      std::string bad = good;
      for (int change = 0; change < 3; ++change) {
        state = state * 1664525 + 1013904223;
        bad[2 + (state >> 8) % (bad.size() - 2)] = static_cast<char>(state >> 24);
      }
      DecodeImage(bad, "a", {.pixels_max = 1 << 20}).status().IgnoreError();
    }
  }
}

TEST(ContactSheet, HasImagesAndCaptions) {
  std::vector<SheetCell> cells;
  for (int i = 0; i < 5; ++i) cells.push_back({Filled(4, 4, {static_cast<uint8_t>(40 * i), 0, 0}), ""});
  const ContactSheet plain = OrDie(MakeContactSheet(cells, {.columns = 3, .scale = 10, .caption_lines = 2}));
  EXPECT_EQ(plain.image.width, 3 * 46 + 6);
  EXPECT_EQ(plain.note, "");
  for (int i = 0; i < 5; ++i) {
    const int32_t x = 6 + i % 3 * 46, y = 6 + i / 3 * (plain.image.height - 6) / 2;
    EXPECT_EQ(plain.image.at(x + 20, y + 20)[0], 40 * i);
    EXPECT_EQ(plain.image.at(x + 20, y + 44)[0], 255);
  }
  // A caption leaves ink below its cell and nowhere else.
  cells[1].caption = "box with a very long name 盒子";
  const ContactSheet named = OrDie(MakeContactSheet(cells, {.columns = 3, .scale = 10, .caption_lines = 2}));
  int inside = 0, outside = 0;
  for (int32_t y = 0; y < named.image.height; ++y) {
    for (int32_t x = 0; x < named.image.width; ++x) {
      if (std::equal(named.image.at(x, y), named.image.at(x, y) + 3, plain.image.at(x, y))) continue;
      ++(x >= 52 && x < 98 && y >= 46 && y < (plain.image.height - 6) / 2 + 6 ? inside : outside);
    }
  }
  EXPECT_GT(inside, 50);
  EXPECT_EQ(outside, 0);
}

// However many images there are, a sheet stays one that can be held, written and looked at.
TEST(ContactSheet, ShowsAsManyAsFit) {
  const std::vector<SheetCell> cells(20, {Filled(4, 4, {0}), ""});
  const SheetOptions options = {.columns = 3, .scale = 10, .caption_lines = 0, .pixels_max = 144 * 46 * 2};
  const ContactSheet sheet = OrDie(MakeContactSheet(cells, options));
  EXPECT_EQ(sheet.image.height, 2 * 46 + 6);
  EXPECT_EQ(sheet.note, "the sheet shows the first 6 of 20 images");
  const ContactSheet row = OrDie(MakeContactSheet(cells, {.columns = 3, .scale = 10, .pixels_max = 1}));
  EXPECT_THAT(row.note, HasSubstr("the first 3 of 20 images"));
  EXPECT_EQ(OrDie(MakeContactSheet(std::span(cells).first(6), options)).note, "");
}

TEST(ContactSheet, SaysWhatItCannotDraw) {
  std::vector<SheetCell> cells = {{Filled(4, 4, {0}), "\U000E0041"}};
  EXPECT_THAT(OrDie(MakeContactSheet(cells, {})).note, HasSubstr("drawn as boxes, since no font has them"));
  EXPECT_THAT(std::string(MakeContactSheet(cells, {.fonts = {"none.ttf"}}).status().message()),
              HasSubstr("none.ttf cannot be read as a font"));
  cells.push_back({Filled(5, 4, {0}), ""});
  EXPECT_THAT(std::string(MakeContactSheet(cells, {}).status().message()), HasSubstr("got 5 x 4 x 1"));
  EXPECT_THAT(std::string(MakeContactSheet({}, {}).status().message()), HasSubstr("at least one image, got none"));
}

}  // namespace
}  // namespace angel_ptm
