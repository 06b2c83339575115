// Emoji: names from Unicode's CLDR, pictures from fonts and folders.
#include <hb-ft.h>
#include <hb.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/font.h"
#include "angel_ptm/data/images/image_listing.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

constexpr char kFont[] = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
constexpr char kCldr[] = "/usr/share/unicode/cldr/common";
constexpr const char* kLanguages[] = {"en", "zh"};
constexpr uint32_t kVariationSelector16 = 0xfe0f;

using CodePoints = std::u32string;

struct Annotation {
  std::string name, keywords;
};
// Keyed by code points without variation selectors; `order` is the order in the files.
struct Annotations {
  std::map<CodePoints, Annotation> all;
  std::vector<CodePoints> order;
};

std::string Unescape(std::string_view text) {
  std::string result;
  constexpr std::pair<std::string_view, char> kEntities[] = {
      {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
  while (!text.empty()) {
    const auto entity = std::find_if(std::begin(kEntities), std::end(kEntities),
                                     [&](const auto& e) { return text.starts_with(e.first); });
    const bool found = entity != std::end(kEntities);
    result += found ? entity->second : text[0];
    text.remove_prefix(found ? entity->first.size() : 1);
  }
  return result;
}

CodePoints WithoutSelectors(std::string_view text) {
  CodePoints result;
  for (size_t at = 0; at < text.size();) {
    const uint32_t code_point = NextCodePoint(text, &at);
    if (code_point != kVariationSelector16) result.push_back(code_point);
  }
  return result;
}

// Reads elements <annotation cp="..." [type="tts"] ...>text</annotation>: with a type they are names, else keywords
// separated by bars.
absl::Status ReadAnnotations(const std::string& path, Annotations* annotations) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  const auto wrong = [&](size_t at) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a file of CLDR annotations: byte ", at, " is not what should stand there"));
  };
  if (ValidUtf8Prefix(content) < content.size()) return wrong(ValidUtf8Prefix(content));
  constexpr std::string_view kBegin = "<annotation cp=\"", kEnd = "</annotation>";
  const std::string_view text = content;
  for (size_t at = text.find(kBegin); at != std::string_view::npos; at = text.find(kBegin, at)) {
    const size_t key_begin = at + kBegin.size(), key_end = text.find('"', key_begin), tag_end = text.find('>', key_end);
    const size_t end = text.find(kEnd, at);
    if (tag_end == std::string_view::npos || end == std::string_view::npos || tag_end > end) return wrong(at);
    const CodePoints key = WithoutSelectors(Unescape(text.substr(key_begin, key_end - key_begin)));
    const bool is_name = text.substr(key_end, tag_end - key_end).find("type=\"tts\"") != std::string_view::npos;
    const auto [entry, is_new] = annotations->all.try_emplace(key);
    if (is_new) annotations->order.push_back(key);
    (is_name ? entry->second.name : entry->second.keywords) = Unescape(text.substr(tag_end + 1, end - tag_end - 1));
    at = end;
  }
  if (annotations->all.empty()) return wrong(0);
  return absl::OkStatus();
}

// Pictures of a font's strike. The items that load from it keep it alive.
class EmojiFont {
 public:
  static absl::StatusOr<std::shared_ptr<EmojiFont>> Open(const std::string& path) {
    auto font = std::make_shared<EmojiFont>();
    font->path_ = path;
    ASSIGN_OR_RETURN(font->face_, font->library_.Open(path));
    if (!FT_HAS_COLOR(font->face_) || font->face_->num_fixed_sizes < 1 || FT_Select_Size(font->face_, 0) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path,
                       " has no colour bitmaps, wanted a font such as NotoColorEmoji.ttf of Debian's "
                       "fonts-noto-color-emoji"));
    }
    font->shaper_.reset(hb_ft_font_create_referenced(font->face_));
    return font;
  }

  // The glyph of a sequence, or 0 if the font does not draw it as a single glyph.
  uint32_t GlyphOf(const CodePoints& sequence) const {
    const std::unique_ptr<hb_buffer_t, decltype(&hb_buffer_destroy)> buffer(hb_buffer_create(), hb_buffer_destroy);
    hb_buffer_add_utf32(buffer.get(), reinterpret_cast<const uint32_t*>(sequence.data()),
                        static_cast<int>(sequence.size()), 0, static_cast<int>(sequence.size()));
    hb_buffer_guess_segment_properties(buffer.get());
    hb_shape(shaper_.get(), buffer.get(), nullptr, 0);
    unsigned int count = 0;
    const hb_glyph_info_t* glyphs = hb_buffer_get_glyph_infos(buffer.get(), &count);
    return count == 1 ? glyphs[0].codepoint : 0;
  }

  bool HasPicture(uint32_t glyph) const {
    return glyph != 0 && FT_Load_Glyph(face_, glyph, FT_LOAD_COLOR) == 0 &&
           face_->glyph->bitmap.pixel_mode == FT_PIXEL_MODE_BGRA && face_->glyph->bitmap.width > 0;
  }

  absl::StatusOr<Image> Draw(uint32_t glyph) const {
    if (!HasPicture(glyph)) return absl::InvalidArgumentError(absl::StrCat(path_, ": glyph ", glyph, " is damaged"));
    const FT_Bitmap& bitmap = face_->glyph->bitmap;
    Image image = MakeImage(static_cast<int32_t>(bitmap.width), static_cast<int32_t>(bitmap.rows), 3);
    for (int32_t y = 0; y < image.height; ++y) {
      for (int32_t x = 0; x < image.width; ++x) {
        // Blue, green, red, alpha, with premultiplied colours; blended onto white.
        const uint8_t* from = bitmap.buffer + int64_t{y} * bitmap.pitch + 4 * x;
        for (int32_t c = 0; c < 3; ++c) {
          image.at(x, y)[c] = static_cast<uint8_t>(std::min(255, from[2 - c] + 255 - from[3]));
        }
      }
    }
    return image;
  }

 private:
  std::string path_;
  FontLibrary library_;
  FT_Face face_ = nullptr;
  std::unique_ptr<hb_font_t, decltype(&hb_font_destroy)> shaper_{nullptr, hb_font_destroy};
};

// Parses "1F469-1F3FD.png" or "emoji_u1f469_1f3fd.png" into code points; empty for other names.
CodePoints CodePointsOfName(std::string stem) {
  if (stem.starts_with("emoji_u")) stem.erase(0, 7);
  CodePoints result;
  for (const absl::string_view part : absl::StrSplit(stem, absl::ByAnyChar("-_"))) {
    uint32_t code_point = 0;
    if (part.size() < 2 || !absl::SimpleHexAtoi(part, &code_point) || code_point > 0x10ffff) return {};
    if (code_point != kVariationSelector16) result.push_back(code_point);
  }
  return result;
}

absl::StatusOr<std::map<CodePoints, std::string>> ListStyle(const std::string& folder) {
  std::map<CodePoints, std::string> files;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  for (const std::string& name : names) {
    if (!name.ends_with(".png")) continue;
    const CodePoints key = CodePointsOfName(name.substr(0, name.size() - 4));
    if (!key.empty()) files[key] = absl::StrCat(folder, "/", name);
  }
  if (files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " has no PNG files named by code points, wanted such as 1f600.png"));
  }
  return files;
}

// Returns the name, then the name with its keywords.
absl::StatusOr<std::vector<std::string>> CaptionsOf(const Annotation& annotation, const std::string& where) {
  std::vector<std::string> captions(1);
  ASSIGN_OR_RETURN(captions[0], CheckedCaption(annotation.name, where));
  std::string keywords;
  for (const absl::string_view keyword : absl::StrSplit(annotation.keywords, " | ")) {
    if (keyword.empty() || keyword == annotation.name) continue;
    absl::StrAppend(&keywords, keywords.empty() ? ": " : ", ", keyword);
  }
  if (!keywords.empty()) captions.push_back(captions[0] + keywords);
  return captions;
}

struct Inputs {
  std::string font = kFont, cldr = kCldr;
  std::vector<std::pair<std::string, std::string>> styles;
};

absl::StatusOr<Inputs> ReadInputs(const std::vector<std::string>& inputs) {
  Inputs result;
  for (const std::string& input : inputs) {
    const size_t equals = input.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == input.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("an input of emoji should be font=FILE, cldr=FOLDER or STYLE=FOLDER, got ", input));
    }
    const std::string name = input.substr(0, equals), path = input.substr(equals + 1);
    if (name == "font") {
      result.font = path;
    } else if (name == "cldr") {
      result.cldr = path;
    } else {
      result.styles.emplace_back(name, path);
    }
  }
  return result;
}

absl::StatusOr<std::vector<Annotations>> ReadCldr(const std::string& folder) {
  std::vector<Annotations> languages;
  for (const char* language : kLanguages) {
    Annotations& annotations = languages.emplace_back();
    for (const char* part : {"annotations", "annotationsDerived"}) {
      const absl::Status read = ReadAnnotations(absl::StrCat(folder, "/", part, "/", language, ".xml"), &annotations);
      if (absl::IsNotFound(read)) {
        return absl::NotFoundError(
            absl::StrCat(read.message(), "; install unicode-cldr-core, or give its folder as cldr="));
      }
      RETURN_IF_ERROR(read);
    }
  }
  return languages;
}

}  // namespace

absl::StatusOr<ImageListing> ListEmoji(const std::vector<std::string>& inputs) {
  ASSIGN_OR_RETURN(const Inputs places, ReadInputs(inputs));
  ASSIGN_OR_RETURN(const std::vector<Annotations> cldr, ReadCldr(places.cldr));
  const absl::StatusOr<bool> has_font = PathExists(places.font);
  if (has_font.ok() && !*has_font) {
    return absl::NotFoundError(
        absl::StrCat(places.font, " is not there; install fonts-noto-color-emoji, or give the file as font="));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<EmojiFont> font, EmojiFont::Open(places.font));
  ImageListing listing;
  listing.languages = {std::begin(kLanguages), std::end(kLanguages)};
  listing.styles = {OwnName(places.font).substr(0, OwnName(places.font).rfind('.'))};
  std::vector<std::map<CodePoints, std::string>> styles;
  for (const auto& [name, folder] : places.styles) {
    listing.styles.push_back(name);
    ASSIGN_OR_RETURN(styles.emplace_back(), ListStyle(folder));
  }
  int64_t without_picture = 0;
  for (const CodePoints& key : cldr[0].order) {
    ImageItem item;
    for (const Annotations& annotations : cldr) {
      const auto found = annotations.all.find(key);
      if (found == annotations.all.end() || found->second.name.empty()) break;
      ASSIGN_OR_RETURN(item.captions.emplace_back(), CaptionsOf(found->second, places.cldr));
    }
    if (item.captions.size() < cldr.size()) continue;
    for (const char32_t code_point : key) {
      absl::StrAppend(&item.name, item.name.empty() ? "" : "-", absl::Hex(static_cast<uint32_t>(code_point)));
    }
    const uint32_t glyph = font->GlyphOf(key);
    const size_t before = listing.items.size();
    if (font->HasPicture(glyph)) {
      item.load = [font, glyph] { return font->Draw(glyph); };
      listing.items.push_back(item);
    }
    for (size_t style = 0; style < styles.size(); ++style) {
      const auto found = styles[style].find(key);
      if (found == styles[style].end()) continue;
      item.labels.style_id = static_cast<int32_t>(style) + 1;
      item.load = [path = found->second]() -> absl::StatusOr<Image> {
        ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
        return DecodeImage(bytes, path);
      };
      listing.items.push_back(item);
    }
    without_picture += listing.items.size() == before;
  }
  if (listing.items.empty())
    return absl::InvalidArgumentError(absl::StrCat(places.font, " draws none of CLDR's names"));
  listing.note = absl::StrCat(without_picture, " names of CLDR have no picture");
  return listing;
}

}  // namespace angel_ptm
