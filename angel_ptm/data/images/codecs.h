// PNG and JPEG by libpng and libjpeg-turbo. In a build without them (ANGEL_PTM_IMAGES) every call returns
// kUnimplemented with that reason.
#ifndef ANGEL_PTM_DATA_IMAGES_CODECS_H_
#define ANGEL_PTM_DATA_IMAGES_CODECS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

// Whether this build can decode, encode and draw.
bool HasImageLibraries();

struct DecodeLimits {
  int64_t pixels_max = int64_t{1} << 28;  // of a larger image, only the header is read
};

// Decodes a file, PNG or JPEG as its first bytes say. Palettes, 16 bits, transparency and CMYK become 8 bits of grey,
// grey and alpha, RGB or RGBA; a JPEG is turned as its EXIF orientation says. Errors (kInvalidArgument) name `name`,
// the path: another format; a damaged or truncated file, even if a decoder could guess the rest; no pixels or too many.
absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, const DecodeLimits& limits = {});

// Returns a PNG of 8 bits with 1 to 4 channels. Equal images give equal bytes with the same libpng and zlib.
absl::StatusOr<std::string> EncodePng(const Image& image);

// Writes EncodePng to a file, which appears only when it is complete. Errors: those of the file.
absl::Status WritePng(const std::string& path, const Image& image);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_CODECS_H_
