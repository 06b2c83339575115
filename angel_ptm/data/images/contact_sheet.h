// Many images with captions on one, as a person looks at them.
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
  Image image;          // 1 or 3 channels; all cells' images have one size
  std::string caption;  // UTF-8, drawn below, broken over at most `caption_lines` lines, then cut with "…"
};

struct SheetOptions {
  int32_t columns = 8;
  int32_t scale = 0;  // each pixel becomes scale x scale; 0: cells about 96 wide
  int32_t caption_lines = 2;
  int32_t font_pixels = 12;
  int64_t pixels_max = int64_t{1} << 26;  // rows of cells that do not fit are left out, but for the first row
  // Font files, tried in order for each character. Empty: those of SheetFonts() that exist.
  std::vector<std::string> fonts;
};

// Where Debian's packages have fonts for Latin (DejaVu) and Chinese (Droid Fallback, WenQuanYi, Noto CJK).
std::span<const char* const> SheetFonts();

struct ContactSheet {
  Image image;       // RGB
  std::string note;  // how many cells are left out, which characters no font has, drawn as boxes; empty if none
};

// Errors: no cells, cells of different sizes, a named font that cannot be read, a build without FreeType. No font at
// all is no error: captions are boxes, and the note says so.
absl::StatusOr<ContactSheet> MakeContactSheet(std::span<const SheetCell> cells, const SheetOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_CONTACT_SHEET_H_
