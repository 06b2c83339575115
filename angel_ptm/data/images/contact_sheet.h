// Draws many images with captions on one sheet, for people to look at.
#ifndef ANGEL_PTM_DATA_IMAGES_CONTACT_SHEET_H_
#define ANGEL_PTM_DATA_IMAGES_CONTACT_SHEET_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

struct SheetCell {
  Image image;          // 1 or 3 channels; the images of all cells have the same size
  std::string caption;  // UTF-8, drawn below the image on at most `caption_lines` lines, then cut with "…"
};

struct SheetOptions {
  int32_t columns = 8;
  int32_t scale = 0;  // each pixel becomes scale x scale; 0: makes cells about 96 wide
  int32_t caption_lines = 2;
  int32_t font_pixels = 12;
  int64_t pixels_max = int64_t{1} << 26;  // rows of cells that do not fit are left out, but for the first row
  // Font files, tried in order for each character. Empty: those of SheetFonts() that exist.
  std::vector<std::string> fonts;
};

// Where Debian's packages install fonts for Latin (DejaVu) and Chinese (Droid Fallback, WenQuanYi, Noto CJK).
std::span<const char* const> SheetFonts();

struct ContactSheet {
  Image image;  // RGB
  // How many cells are left out, and which characters no font has and are drawn as boxes; empty if none.
  std::string note;
};

// Errors: no cells; cells of different sizes; a named font that cannot be read; a build without FreeType. Having no
// font at all is not an error: captions are drawn as boxes, and the note says so.
absl::StatusOr<ContactSheet> MakeContactSheet(std::span<const SheetCell> cells, const SheetOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_CONTACT_SHEET_H_
