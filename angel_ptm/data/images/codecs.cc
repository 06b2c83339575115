#include "angel_ptm/data/images/codecs.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>  // jpeglib.h needs it

// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

absl::Status Damaged(const std::string& name, const char* kind, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(name, " is a damaged ", kind, ": ", why));
}

absl::Status CheckSize(uint32_t width, uint32_t height, const DecodeLimits& limits, const std::string& name) {
  if (width > 0 && height > 0 && int64_t{width} * height <= limits.pixels_max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has ", width, " x ", height, " pixels, wanted from 1 to ", limits.pixels_max, " in all"));
}

absl::StatusOr<Image> DecodePng(std::string_view bytes, const std::string& name, const DecodeLimits& limits) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) return Damaged(name, "PNG", png.message);
  if (const absl::Status size = CheckSize(png.width, png.height, limits, name); !size.ok()) {
    png_image_free(&png);
    return size;
  }
  // 16-bit samples usually have the encoding of 8-bit ones, whatever the library assumes by default.
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  png.format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;
  Image image = MakeImage(static_cast<int32_t>(png.width), static_cast<int32_t>(png.height),
                          static_cast<int32_t>(PNG_IMAGE_PIXEL_CHANNELS(png.format)));
  const bool read = png_image_finish_read(&png, nullptr, image.pixels.data(), 0, nullptr) != 0;
  const std::string message = png.message;
  png_image_free(&png);
  if (!read) return Damaged(name, "PNG", message);
  return image;
}

// libjpeg reports errors by a callback that must not return.
struct JpegReader {
  jpeg_decompress_struct jpeg;
  jpeg_error_mgr errors;
  jmp_buf failed;
  char message[JMSG_LENGTH_MAX];
};

void FailJpeg(j_common_ptr common) {
  JpegReader* reader = static_cast<JpegReader*>(common->client_data);
  common->err->format_message(common, reader->message);
  longjmp(reader->failed, 1);
}

// Treats warnings about inconsistent data as errors; otherwise the library would make up the data.
void WarnJpeg(j_common_ptr common, int level) {
  if (level < 0) FailJpeg(common);
}

// In these two steps, no object with a destructor lives between setjmp and a call that may jump.
bool BeginJpeg(std::string_view bytes, JpegReader* reader) {
  reader->jpeg.err = jpeg_std_error(&reader->errors);
  reader->errors.error_exit = FailJpeg;
  reader->errors.emit_message = WarnJpeg;
  reader->jpeg.client_data = reader;
  if (setjmp(reader->failed) != 0) return false;
  jpeg_create_decompress(&reader->jpeg);
  jpeg_mem_src(&reader->jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&reader->jpeg, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&reader->jpeg, TRUE);
  return true;
}

bool ReadJpeg(JpegReader* reader, uint8_t* pixels, size_t row_bytes) {
  if (setjmp(reader->failed) != 0) return false;
  jpeg_start_decompress(&reader->jpeg);
  while (reader->jpeg.output_scanline < reader->jpeg.output_height) {
    JSAMPROW row = pixels + reader->jpeg.output_scanline * row_bytes;
    jpeg_read_scanlines(&reader->jpeg, &row, 1);
  }
  jpeg_finish_decompress(&reader->jpeg);
  return true;
}

// The orientation 1 to 8 in tag 0x0112 of the first directory; 1 if it is missing or unreadable.
int ExifOrientation(const jpeg_decompress_struct& jpeg) {
  for (jpeg_saved_marker_ptr marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (!data.starts_with(std::string_view("Exif\0\0", 6))) continue;
    const std::string_view tiff = data.substr(6);
    const bool little = tiff.starts_with("II");
    if (!little && !tiff.starts_with("MM")) return 1;
    const auto number = [&](size_t at, size_t size) -> uint32_t {
      uint32_t value = 0;
      for (size_t i = 0; i < size && at + size <= tiff.size(); ++i) {
        value = value << 8 | static_cast<uint8_t>(tiff[at + (little ? size - 1 - i : i)]);
      }
      return value;
    };
    const size_t directory = number(4, 4);
    for (size_t entry = 0; entry < number(directory, 2); ++entry) {
      const size_t at = directory + 2 + 12 * entry;
      if (at + 12 > tiff.size()) break;
      const uint32_t orientation = number(at + 8, 2);
      if (number(at, 2) == 0x0112 && orientation >= 1 && orientation <= 8) return static_cast<int>(orientation);
    }
    return 1;
  }
  return 1;
}

Image Turn(const Image& image, int orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  Image turned = MakeImage(swapped ? image.height : image.width, swapped ? image.width : image.height, image.channels);
  for (int32_t y = 0; y < turned.height; ++y) {
    for (int32_t x = 0; x < turned.width; ++x) {
      int32_t from_x = swapped ? y : x, from_y = swapped ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
        from_x = image.width - 1 - from_x;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
        from_y = image.height - 1 - from_y;
      }
      std::copy_n(image.at(from_x, from_y), image.channels, turned.at(x, y));
    }
  }
  return turned;
}

// Converts without colour management. Adobe's programs store inks inverted.
Image FromInks(const Image& inks, bool inverted) {
  Image image = MakeImage(inks.width, inks.height, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    const int ink = inks.pixels[i / 3 * 4 + i % 3], black = inks.pixels[i / 3 * 4 + 3];
    const int product = inverted ? ink * black : (255 - ink) * (255 - black);
    image.pixels[i] = static_cast<uint8_t>((product + 127) / 255);
  }
  return image;
}

absl::StatusOr<Image> DecodeJpeg(std::string_view bytes, const std::string& name, const DecodeLimits& limits) {
  JpegReader reader = {};
  const auto finish = [&](auto result) {
    jpeg_destroy_decompress(&reader.jpeg);
    return absl::StatusOr<Image>(std::move(result));
  };
  if (!BeginJpeg(bytes, &reader)) return finish(Damaged(name, "JPEG", reader.message));
  const absl::Status size = CheckSize(reader.jpeg.image_width, reader.jpeg.image_height, limits, name);
  if (!size.ok()) return finish(size);
  const bool grey = reader.jpeg.jpeg_color_space == JCS_GRAYSCALE, inks = reader.jpeg.num_components == 4;
  reader.jpeg.out_color_space = grey ? JCS_GRAYSCALE : inks ? JCS_CMYK : JCS_RGB;
  const int orientation = ExifOrientation(reader.jpeg);  // markers are gone once the image has been read
  // The slow transform is the exact one and gives the same result on all processors.
  reader.jpeg.dct_method = JDCT_ISLOW;
  Image image = MakeImage(static_cast<int32_t>(reader.jpeg.image_width), static_cast<int32_t>(reader.jpeg.image_height),
                          grey   ? 1
                          : inks ? 4
                                 : 3);
  const size_t row_bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  if (!ReadJpeg(&reader, image.pixels.data(), row_bytes)) return finish(Damaged(name, "JPEG", reader.message));
  if (inks) image = FromInks(image, reader.jpeg.saw_Adobe_marker != 0);
  return finish(Turn(image, orientation));
}

}  // namespace

bool HasImageLibraries() { return true; }

absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, const DecodeLimits& limits) {
  if (bytes.starts_with("\x89PNG")) return DecodePng(bytes, name, limits);
  if (bytes.starts_with("\xff\xd8")) return DecodeJpeg(bytes, name, limits);
  return absl::InvalidArgumentError(absl::StrCat(name, bytes.empty() ? " is empty" : " is neither a PNG nor a JPEG"));
}

absl::StatusOr<std::string> EncodePng(const Image& image) {
  constexpr std::array<png_uint_32, 5> kFormats = {0, PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = kFormats[static_cast<size_t>(image.channels)];
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string file(bytes, '\0');
  if (png_image_write_to_memory(&png, file.data(), &bytes, 0, image.pixels.data(), 0, nullptr) == 0) {
    return absl::InternalError(
        absl::StrCat("cannot write a PNG of ", image.width, " x ", image.height, " pixels: ", png.message));
  }
  file.resize(bytes);
  return file;
}

absl::Status WritePng(const std::string& path, const Image& image) {
  ASSIGN_OR_RETURN(const std::string bytes, EncodePng(image));
  return WriteFile(path, bytes);
}

}  // namespace angel_ptm
