// FreeType's handles, closed by their owner.
#ifndef ANGEL_PTM_DATA_IMAGES_FONT_H_
#define ANGEL_PTM_DATA_IMAGES_FONT_H_

#include <freetype/freetype.h>
#include <ft2build.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace angel_ptm {

// Faces live as long as their library.
class FontLibrary {
 public:
  FontLibrary();
  ~FontLibrary();
  FontLibrary(const FontLibrary&) = delete;
  FontLibrary& operator=(const FontLibrary&) = delete;

  // Opens the first face of the file. Errors name the path.
  absl::StatusOr<FT_Face> Open(const std::string& path);

 private:
  FT_Library library_ = nullptr;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_FONT_H_
