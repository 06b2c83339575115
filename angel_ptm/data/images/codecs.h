// PNG and JPEG by libpng and libjpeg-turbo. In a build without them (ANGEL_PTM_IMAGES) every call is kUnimplemented and
// says so.
#ifndef ANGEL_PTM_DATA_IMAGES_CODECS_H_
#define ANGEL_PTM_DATA_IMAGES_CODECS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

// Whether this build can decode, write and draw.
bool HasImageLibraries();

struct DecodeLimits {
  int64_t pixels_max = int64_t{1} << 28;  // of larger images only the header is read
};

// The image of a file's bytes, PNG or JPEG by their first bytes. Palettes, 16 bits, transparency and CMYK become 8 bits
// of grey, grey and alpha, RGB or RGBA; a JPEG is turned as its EXIF orientation says. Errors, kInvalidArgument, name
// `name` (the path): another format, a damaged or cut file (also if a decoder could guess the rest), no pixels or too
// many.
absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, const DecodeLimits& limits = {});

// The bytes of a PNG of 8 bits, 1 to 4 channels. Equal images give equal bytes with the same libpng and zlib.
absl::StatusOr<std::string> EncodePng(const Image& image);

// EncodePng into a file that appears when it is whole. Errors: those of the file.
absl::Status WritePng(const std::string& path, const Image& image);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_CODECS_H_
