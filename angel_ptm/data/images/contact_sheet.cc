#include "angel_ptm/data/images/contact_sheet.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/font.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

constexpr std::array<const char*, 6> kFonts = {"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
                                               "/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf",
                                               "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
                                               "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
                                               "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
                                               "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"};
constexpr int32_t kGap = 6;
constexpr uint32_t kEllipsis = 0x2026;

class Pen {
 public:
  static absl::StatusOr<std::unique_ptr<Pen>> Make(const SheetOptions& options) {
    auto pen = std::unique_ptr<Pen>(new Pen(options.font_pixels));
    std::vector<std::string> paths = options.fonts;
    if (paths.empty()) {
      for (const char* path : kFonts) {
        std::error_code error;
        if (std::filesystem::exists(path, error)) paths.emplace_back(path);
      }
    }
    for (const std::string& path : paths) {
      ASSIGN_OR_RETURN(const FT_Face face, pen->library_.Open(path));
      if (FT_Set_Pixel_Sizes(face, 0, static_cast<FT_UInt>(options.font_pixels)) != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, " has no letters of ", options.font_pixels, " pixels; wanted a font of outlines"));
      }
      pen->faces_.push_back(face);
    }
    return pen;
  }

  int32_t line_height() const { return pixels_ + pixels_ / 3; }

  int32_t Advance(uint32_t code_point) {
    const FT_Face face = Find(code_point);
    return face == nullptr ? pixels_ : static_cast<int32_t>(face->glyph->advance.x >> 6);
  }

  // Draws a character in black on `sheet`, with its left edge at x, in the line whose top is y.
  void Draw(uint32_t code_point, int32_t x, int32_t y, Image* sheet) {
    const FT_Face face = Find(code_point);
    const int32_t baseline = y + pixels_;
    if (face == nullptr) {
      missing_.insert(code_point);
      for (int32_t i = 1; i < pixels_ - 1; ++i) {
        for (const auto& [dx, dy] :
             {std::pair(i, 1), std::pair(i, pixels_ - 2), std::pair(1, i), std::pair(pixels_ - 2, i)}) {
          Ink(x + dx, y + 2 + dy, 160, sheet);
        }
      }
      return;
    }
    if (FT_Render_Glyph(face->glyph, FT_RENDER_MODE_NORMAL) != 0) return;
    const FT_Bitmap& bitmap = face->glyph->bitmap;
    for (int32_t row = 0; row < static_cast<int32_t>(bitmap.rows); ++row) {
      for (int32_t column = 0; column < static_cast<int32_t>(bitmap.width); ++column) {
        Ink(x + face->glyph->bitmap_left + column, baseline - face->glyph->bitmap_top + row,
            bitmap.buffer[row * bitmap.pitch + column], sheet);
      }
    }
  }

  std::string Note() const {
    if (missing_.empty()) return "";
    std::string note = absl::StrCat("drawn as boxes, since no font has them:");
    for (const uint32_t code_point : missing_) {
      absl::StrAppend(&note, " ");
      AppendUtf8(code_point, &note);
    }
    return absl::StrCat(note, "; install fonts-dejavu-core and fonts-droid-fallback");
  }

 private:
  explicit Pen(int32_t pixels) : pixels_(pixels) {}

  // Loads the character from the first face that has it and returns the face; null if none has it.
  FT_Face Find(uint32_t code_point) {
    for (const FT_Face face : faces_) {
      const FT_UInt glyph = FT_Get_Char_Index(face, code_point);
      if (glyph != 0 && FT_Load_Glyph(face, glyph, FT_LOAD_DEFAULT) == 0) return face;
    }
    return nullptr;
  }

  static void Ink(int32_t x, int32_t y, int32_t coverage, Image* sheet) {
    if (x < 0 || y < 0 || x >= sheet->width || y >= sheet->height) return;
    for (int32_t c = 0; c < 3; ++c) {
      uint8_t& value = sheet->at(x, y)[c];
      value = static_cast<uint8_t>(value * (255 - coverage) / 255);
    }
  }

  int32_t pixels_;
  FontLibrary library_;
  std::vector<FT_Face> faces_;
  std::set<uint32_t> missing_;
};

// Breaks the caption into lines at most `width` wide, cutting the last one with an ellipsis. Breaks at spaces, and
// after any character that is not in a word of letters below U+2E80, where Chinese begins.
std::vector<std::vector<uint32_t>> BreakLines(std::string_view text, int32_t width, int32_t lines_max, Pen* pen) {
  std::vector<std::vector<uint32_t>> lines(1);
  std::vector<uint32_t> all;
  for (size_t at = 0; at < text.size();) all.push_back(NextCodePoint(text, &at));
  const auto measure = [&](const std::vector<uint32_t>& line) {
    int32_t sum = 0;
    for (const uint32_t code_point : line) sum += pen->Advance(code_point);
    return sum;
  };
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin + 1;
    while (all[begin] < 0x2e80 && end < all.size() && all[end] < 0x2e80 && all[end - 1] != ' ') ++end;
    std::vector<uint32_t> longer = lines.back();
    longer.insert(longer.end(), all.begin() + static_cast<int64_t>(begin), all.begin() + static_cast<int64_t>(end));
    if (measure(longer) <= width || lines.back().empty()) {
      lines.back() = std::move(longer);
    } else if (static_cast<int32_t>(lines.size()) < lines_max) {
      lines.emplace_back(all.begin() + static_cast<int64_t>(begin), all.begin() + static_cast<int64_t>(end));
    } else {
      lines.back().push_back(kEllipsis);
      break;
    }
    begin = end;
  }
  for (std::vector<uint32_t>& line : lines) {
    const bool too_wide = measure(line) > width;
    while (line.size() > 1 && measure(line) > width) {
      line.pop_back();
      line.back() = too_wide ? kEllipsis : line.back();
    }
  }
  return lines;
}

void Enlarge(const Image& image, int32_t scale, int32_t left, int32_t top, Image* sheet) {
  const Image colour = WithChannels(image, 3);
  for (int32_t y = 0; y < colour.height * scale; ++y) {
    for (int32_t x = 0; x < colour.width * scale; ++x) {
      std::copy_n(colour.at(x / scale, y / scale), 3, sheet->at(left + x, top + y));
    }
  }
}

}  // namespace

std::span<const char* const> SheetFonts() { return kFonts; }

absl::StatusOr<ContactSheet> MakeContactSheet(std::span<const SheetCell> cells, const SheetOptions& options) {
  if (cells.empty()) return absl::InvalidArgumentError("a contact sheet should have at least one image, got none");
  const Image& first = cells[0].image;
  for (const SheetCell& cell : cells) {
    const Image& image = cell.image;
    if (image.width != first.width || image.height != first.height || image.channels % 2 == 0) {
      return absl::InvalidArgumentError(absl::StrCat("the images of a contact sheet should all have ", first.width,
                                                     " x ", first.height, " pixels without alpha, got ", image.width,
                                                     " x ", image.height, " x ", image.channels));
    }
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Pen> pen, Pen::Make(options));
  const int32_t scale = options.scale > 0 ? options.scale : std::max(1, 96 / first.width);
  const int32_t columns = std::clamp(static_cast<int32_t>(cells.size()), 1, std::max(1, options.columns));
  const int32_t cell_width = first.width * scale + kGap;
  const int32_t cell_height = first.height * scale + options.caption_lines * pen->line_height() + kGap;
  // A sheet of all images would take as much memory as they do, and PNG has no more than a million rows.
  const int64_t of_row = (int64_t{columns} * cell_width + kGap) * cell_height;
  const int64_t shown =
      std::min(static_cast<int64_t>(cells.size()), columns * std::max<int64_t>(1, options.pixels_max / of_row));
  const int32_t rows = static_cast<int32_t>((shown + columns - 1) / columns);
  ContactSheet sheet = {.image = MakeImage(columns * cell_width + kGap, rows * cell_height + kGap, 3), .note = ""};
  std::fill(sheet.image.pixels.begin(), sheet.image.pixels.end(), 255);
  for (int32_t i = 0; i < static_cast<int32_t>(shown); ++i) {
    const SheetCell& cell = cells[static_cast<size_t>(i)];
    const int32_t left = kGap + i % columns * cell_width, top = kGap + i / columns * cell_height;
    Enlarge(cell.image, scale, left, top, &sheet.image);
    if (options.caption_lines < 1) continue;
    int32_t y = top + first.height * scale;
    const std::string caption = ReplaceInvalidUtf8(cell.caption);
    for (const auto& line : BreakLines(caption, first.width * scale, options.caption_lines, pen.get())) {
      int32_t x = left;
      for (const uint32_t code_point : line) {
        if (code_point != ' ') pen->Draw(code_point, x, y, &sheet.image);
        x += pen->Advance(code_point);
      }
      y += pen->line_height();
    }
  }
  sheet.note = pen->Note();
  if (shown < static_cast<int64_t>(cells.size())) {
    sheet.note = absl::StrCat("the sheet shows the first ", shown, " of ", cells.size(), " images",
                              sheet.note.empty() ? "" : "; ", sheet.note);
  }
  return sheet;
}

}  // namespace angel_ptm
