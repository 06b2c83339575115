// Replaces everything that needs the image libraries in a build without them.
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/contact_sheet.h"
#include "angel_ptm/data/images/image_listing.h"

namespace angel_ptm {
namespace {

absl::Status Absent() {
  return absl::UnimplementedError(
      "this build has no image libraries: install libpng, libjpeg-turbo, FreeType, HarfBuzz and zlib and configure "
      "with "
      "-DANGEL_PTM_IMAGES=ON");
}

}  // namespace

bool HasImageLibraries() { return false; }
absl::StatusOr<Image> DecodeImage(std::string_view, const std::string&, const DecodeLimits&) { return Absent(); }
absl::StatusOr<std::string> EncodePng(const Image&) { return Absent(); }
absl::Status WritePng(const std::string&, const Image&) { return Absent(); }
std::span<const char* const> SheetFonts() { return {}; }
absl::StatusOr<ContactSheet> MakeContactSheet(std::span<const SheetCell>, const SheetOptions&) { return Absent(); }
absl::StatusOr<ImageListing> ListEmoji(const std::vector<std::string>&) { return Absent(); }
absl::StatusOr<ImageListing> ListTuxpaintStamps(const std::vector<std::string>&) { return Absent(); }
absl::StatusOr<ImageListing> ListFashionMnist(const std::vector<std::string>&) { return Absent(); }

}  // namespace angel_ptm
