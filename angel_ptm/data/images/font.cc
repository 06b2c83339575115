#include "angel_ptm/data/images/font.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

FontLibrary::FontLibrary() { APTM_CHECK(FT_Init_FreeType(&library_) == 0, "FreeType does not start"); }

FontLibrary::~FontLibrary() { FT_Done_FreeType(library_); }

absl::StatusOr<FT_Face> FontLibrary::Open(const std::string& path) {
  FT_Face face = nullptr;
  if (const FT_Error error = FT_New_Face(library_, path.c_str(), 0, &face); error != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read as a font: FreeType's error ", error));
  }
  return face;
}

}  // namespace angel_ptm
