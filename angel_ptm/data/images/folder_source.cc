// Folders of images with captions beside them, and WebDataset's tar files.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/encoding.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/image_listing.h"
#include "angel_ptm/data/images/tar_file.h"
#include "angel_ptm/data/walk_files.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kImageBytesMax = int64_t{1} << 28, kCaptionBytesMax = 1 << 20;
constexpr DecodeLimits kLimits = {.pixels_max = int64_t{1} << 26};

// Splits "a/b.en.txt" into "a/b" and "en.txt": WebDataset's key ends at the first dot of the name.
std::pair<std::string, std::string> KeyAndExtension(const std::string& path) {
  const size_t dot = path.find('.', path.rfind('/') + 1);
  if (dot == std::string::npos) return {path, ""};
  return {path.substr(0, dot), absl::AsciiStrToLower(path.substr(dot + 1))};
}

bool IsImage(const std::string& extension) { return extension == "png" || extension == "jpg" || extension == "jpeg"; }

// Images of formats that are not read.
bool IsOtherImage(const std::string& extension) {
  constexpr std::array<std::string_view, 10> kOthers = {"webp", "gif",  "bmp",  "tif", "tiff",
                                                        "avif", "heic", "heif", "jxl", "jp2"};
  return std::ranges::find(kOthers, extension) != kOthers.end();
}

// The tar file that was read last is open, not all of them: a set may have more than a process may have open.
class LastTar {
 public:
  absl::StatusOr<const FileReader*> Open(const std::string& path) {
    if (file_ == nullptr || file_->path() != path) {
      file_.reset();
      ASSIGN_OR_RETURN(FileReader opened, FileReader::Open(path));
      file_ = std::make_unique<FileReader>(std::move(opened));
    }
    return file_.get();
  }

 private:
  std::unique_ptr<FileReader> file_;
};

class FolderLister {
 public:
  explicit FolderLister(const std::vector<std::string>& languages) {
    listing_.languages = languages;
    listing_.styles = {"default"};
  }

  absl::Status Add(const std::string& input) {
    std::error_code error;
    if (!fs::is_directory(input, error)) return AddTar(input);
    ASSIGN_OR_RETURN(const bool listed, PathExists(input + "/metadata.jsonl"));
    return listed ? AddMetadata(input) : AddFolder(input);
  }

  ImageListing Take() {
    for (const auto& [extension, count] : others_) {
      absl::StrAppend(&listing_.note, listing_.note.empty() ? "left out, since they are neither PNG nor JPEG: " : ", ",
                      count, " .", extension);
    }
    return std::move(listing_);
  }

 private:
  ImageItem NewItem(const std::string& name) const {
    ImageItem item;
    item.name = name;
    item.captions.resize(listing_.languages.size());
    return item;
  }

  static std::function<absl::StatusOr<Image>()> FileLoader(const std::string& path) {
    return [path]() -> absl::StatusOr<Image> {
      ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kImageBytesMax));
      return DecodeImage(bytes, path, kLimits);
    };
  }

  // The language of the captions in a file with this extension, "txt" or "en.txt"; -1 if it has no captions.
  int LanguageOf(const std::string& extension) const {
    if (extension == "txt") return 0;
    for (size_t i = 0; i < listing_.languages.size(); ++i) {
      if (extension == absl::StrCat(listing_.languages[i], ".txt")) return static_cast<int>(i);
    }
    return -1;
  }

  // Reads a caption per line. Empty lines are skipped, but there must be a caption.
  static absl::Status AddLines(const std::string& text, const std::string& where, std::vector<std::string>* captions) {
    bool any = false;
    for (size_t begin = text.starts_with(kUtf8Mark) ? kUtf8Mark.size() : 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (absl::StripAsciiWhitespace(line).empty()) continue;
      ASSIGN_OR_RETURN(captions->emplace_back(), CheckedCaption(line, where));
      any = true;
    }
    return any ? absl::OkStatus() : CheckedCaption("", where).status();
  }

  static absl::Status AddTexts(const Json& value, const std::string& where, std::vector<std::string>* captions) {
    const Json texts = value.is_array() ? value : Json::array({value});
    for (const Json& text : texts) {
      if (!text.is_string()) return absl::InvalidArgumentError(absl::StrCat(where, ": a caption should be a text"));
      ASSIGN_OR_RETURN(captions->emplace_back(), CheckedCaption(text.get_ref<const std::string&>(), where));
    }
    return absl::OkStatus();
  }

  absl::Status AddObject(const Json& object, const std::string& where, ImageItem* item) {
    for (const char* key : {"text", "caption"}) {
      if (object.contains(key)) RETURN_IF_ERROR(AddTexts(object[key], where, &item->captions[0]));
    }
    for (size_t i = 0; i < listing_.languages.size(); ++i) {
      const std::string& language = listing_.languages[i];
      if (object.contains(language)) RETURN_IF_ERROR(AddTexts(object[language], where, &item->captions[i]));
    }
    for (const char* key : {"class", "style"}) {
      if (!object.contains(key)) continue;
      if (!object[key].is_string() && !object[key].is_number_integer()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": \"", key, "\" should be a name or a whole number, got ", object[key].type_name()));
      }
      const std::string name = object[key].is_string() ? object[key].get<std::string>() : object[key].dump();
      if (key == std::string("class")) {
        item->labels.class_id = IdOf(name, &listing_.classes);
      } else {
        item->labels.style_id = IdOf(name, &listing_.styles);
      }
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<Json> ParseObject(const std::string& text, const std::string& where) {
    const Json object = ParseOrderedJson(text);
    if (!object.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, " should be a JSON object"));
    return object;
  }

  absl::Status Keep(ImageItem item, const std::string& wanted) {
    const bool named =
        std::any_of(item.captions.begin(), item.captions.end(), [](const auto& c) { return !c.empty(); });
    if (!named) return absl::InvalidArgumentError(absl::StrCat(item.name, " has no caption, wanted ", wanted));
    listing_.items.push_back(std::move(item));
    return absl::OkStatus();
  }

  // Reads files in the order of their paths, and every folder once.
  absl::Status AddFolder(const std::string& folder) {
    std::vector<std::string> paths;
    std::set<std::pair<dev_t, ino_t>> seen;
    const auto enters = [&](const std::string&, const struct stat& info) -> absl::StatusOr<bool> {
      return seen.emplace(info.st_dev, info.st_ino).second;
    };
    const auto add = [&](const std::string& path, const struct stat&) {
      paths.push_back(path);
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(WalkFiles(folder, enters, add));
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths) {
      const size_t dot = path.rfind('.');
      if (path.ends_with(".tar")) RETURN_IF_ERROR(AddTar(path));
      if (dot == std::string::npos) continue;
      const std::string extension = absl::AsciiStrToLower(path.substr(dot + 1));
      if (IsOtherImage(extension)) ++others_[extension];
      if (!IsImage(extension)) continue;
      const std::string stem = path.substr(0, dot);
      ImageItem item = NewItem(path);
      item.load = FileLoader(path);
      for (size_t i = 0; i <= listing_.languages.size(); ++i) {
        const std::string side = i == 0 ? stem + ".txt" : absl::StrCat(stem, ".", listing_.languages[i - 1], ".txt");
        if (!std::binary_search(paths.begin(), paths.end(), side)) continue;
        ASSIGN_OR_RETURN(const std::string text, ReadFile(side, kCaptionBytesMax));
        RETURN_IF_ERROR(AddLines(text, side, &item.captions[i == 0 ? 0 : i - 1]));
      }
      RETURN_IF_ERROR(Keep(std::move(item), absl::StrCat(stem, ".txt, or a metadata.jsonl in ", folder)));
    }
    return absl::OkStatus();
  }

  absl::Status AddMetadata(const std::string& folder) {
    const std::string path = folder + "/metadata.jsonl";
    ASSIGN_OR_RETURN(const std::string lines, ReadFile(path));
    int64_t number = 0;
    for (size_t begin = 0; begin < lines.size();) {
      const size_t end = std::min(lines.find('\n', begin), lines.size());
      const std::string line = lines.substr(begin, end - begin);
      begin = end + 1;
      const std::string where = absl::StrCat(path, " line ", ++number);
      if (absl::StripAsciiWhitespace(line).empty()) continue;
      ASSIGN_OR_RETURN(const Json object, ParseObject(line, where));
      if (!object.contains("file_name") || !object["file_name"].is_string()) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": wanted a \"file_name\""));
      }
      const std::string image = absl::StrCat(folder, "/", object["file_name"].get<std::string>());
      ImageItem item = NewItem(image);
      item.load = FileLoader(image);
      RETURN_IF_ERROR(AddObject(object, where, &item));
      RETURN_IF_ERROR(Keep(std::move(item), absl::StrCat("\"text\" in ", where)));
    }
    return absl::OkStatus();
  }

  absl::Status AddTar(const std::string& path) {
    ASSIGN_OR_RETURN(const FileReader* const listed, tar_->Open(path));
    ASSIGN_OR_RETURN(const std::vector<TarMember> members, ListTar(*listed));
    const auto read = [tar = tar_, path](const TarMember& member, int64_t most) -> absl::StatusOr<std::string> {
      if (member.bytes > most) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": ", member.name, " has ", member.bytes, " bytes, wanted at most ", most));
      }
      ASSIGN_OR_RETURN(const FileReader* const file, tar->Open(path));
      std::string bytes(static_cast<size_t>(member.bytes), '\0');
      RETURN_IF_ERROR(file->ReadAt(member.offset, std::as_writable_bytes(std::span(bytes))));
      return bytes;
    };
    for (size_t first = 0; first < members.size();) {
      const std::string key = KeyAndExtension(members[first].name).first;
      ImageItem item = NewItem(absl::StrCat(path, ": ", key));
      size_t next = first;
      for (; next < members.size() && KeyAndExtension(members[next].name).first == key; ++next) {
        const TarMember& member = members[next];
        const std::string extension = KeyAndExtension(member.name).second;
        const std::string where = absl::StrCat(path, ": ", member.name);
        if (IsImage(extension)) {
          item.load = [read, member, where]() -> absl::StatusOr<Image> {
            ASSIGN_OR_RETURN(const std::string bytes, read(member, kImageBytesMax));
            return DecodeImage(bytes, where, kLimits);
          };
        } else if (const int language = LanguageOf(extension); language >= 0) {
          ASSIGN_OR_RETURN(const std::string text, read(member, kCaptionBytesMax));
          RETURN_IF_ERROR(AddLines(text, where, &item.captions[static_cast<size_t>(language)]));
        } else if (extension == "json") {
          ASSIGN_OR_RETURN(const std::string text, read(member, kCaptionBytesMax));
          ASSIGN_OR_RETURN(const Json object, ParseObject(text, where));
          RETURN_IF_ERROR(AddObject(object, where, &item));
        } else if (extension == "cls") {
          ASSIGN_OR_RETURN(const std::string text, read(member, kCaptionBytesMax));
          ASSIGN_OR_RETURN(const std::string name, CheckedCaption(text, where));
          item.labels.class_id = IdOf(name, &listing_.classes);
        } else if (IsOtherImage(extension)) {
          ++others_[extension];
        }
      }
      first = next;
      if (item.load) RETURN_IF_ERROR(Keep(std::move(item), absl::StrCat(key, ".txt or ", key, ".json")));
    }
    return absl::OkStatus();
  }

  ImageListing listing_;
  const std::shared_ptr<LastTar> tar_ = std::make_shared<LastTar>();
  std::map<std::string, int64_t> others_;  // images that are not read, by extension
};

}  // namespace

absl::StatusOr<ImageListing> ListImageFolders(const std::vector<std::string>& inputs,
                                              const std::vector<std::string>& languages) {
  FolderLister lister(languages);
  for (const std::string& input : inputs) RETURN_IF_ERROR(lister.Add(input));
  ImageListing listing = lister.Take();
  if (listing.items.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("there are no PNG, JPEG or tar files with images in ", inputs.size(),
                                                   inputs.size() == 1 ? " input, " : " inputs, the first of them ",
                                                   inputs.empty() ? "" : inputs[0], listing.note.empty() ? "" : "; ",
                                                   listing.note));
  }
  return listing;
}

}  // namespace angel_ptm
