// Tux Paint's stamps and Fashion-MNIST, as Debian packages them.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/image_listing.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;

constexpr char kStamps[] = "/usr/share/tuxpaint/stamps";
constexpr char kFashion[] = "/usr/share/datasets/fashion-mnist";

struct ClassName {
  const char* english;
  const char* chinese;
};
constexpr std::array<ClassName, 10> kFashionClasses = {{{"T-shirt or top", "T恤或上衣"},
                                                        {"trousers", "裤子"},
                                                        {"pullover", "套头衫"},
                                                        {"dress", "连衣裙"},
                                                        {"coat", "外套"},
                                                        {"sandal", "凉鞋"},
                                                        {"shirt", "衬衫"},
                                                        {"sneaker", "运动鞋"},
                                                        {"bag", "包"},
                                                        {"ankle boot", "短靴"}}};

// The given input, or else the package's folder. It is an error if that does not exist.
absl::StatusOr<std::string> Folder(const std::vector<std::string>& inputs, const char* usual, const char* package) {
  if (inputs.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("data.prepare.input: wanted at most one folder for this source, got ", inputs.size()));
  }
  const std::string folder = inputs.empty() ? usual : inputs[0];
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return absl::NotFoundError(
        absl::StrCat(folder, " is not a folder; install ", package, ", or set data.prepare.input to where it is"));
  }
  return folder;
}

// The first line is English; of the other lines, the one with "zh_CN.utf8=" is Chinese.
absl::Status AddStampCaptions(const std::string& path, ImageItem* item) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  constexpr std::string_view kChinese = "zh_CN.utf8=";
  bool first = true;
  for (size_t begin = 0; begin < text.size(); first = false) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (first) {
      ASSIGN_OR_RETURN(item->captions[0].emplace_back(), CheckedCaption(line, path));
    } else if (line.starts_with(kChinese) && item->captions[1].empty()) {
      ASSIGN_OR_RETURN(item->captions[1].emplace_back(), CheckedCaption(line.substr(kChinese.size()), path));
    }
  }
  return first ? CheckedCaption("", path).status() : absl::OkStatus();
}

// Reads the bytes of a gzipped IDX file: 4 bytes of type, and 4 bytes for each extent, the high one first.
absl::StatusOr<std::vector<uint8_t>> ReadIdx(const std::string& path, const std::vector<uint32_t>& wanted) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) return FileError("open", path, errno);
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(absl::StrCat(path, " is not what it should be: ", what));
  };
  std::vector<uint8_t> header(4 + 4 * wanted.size());
  if (gzread(file.get(), header.data(), static_cast<unsigned>(header.size())) != static_cast<int>(header.size())) {
    return damaged("it is shorter than its header");
  }
  if (header[2] != 8 || header[3] != wanted.size()) return damaged("it has another type or number of extents");
  size_t bytes = 1;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const uint8_t* p = header.data() + 4 + 4 * i;
    const uint32_t extent = static_cast<uint32_t>(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3];
    if (extent != wanted[i]) return damaged(absl::StrCat("extent ", i, ", wanted ", wanted[i], ", got ", extent));
    bytes *= extent;
  }
  std::vector<uint8_t> data(bytes);
  const int read = gzread(file.get(), data.data(), static_cast<unsigned>(bytes));
  if (read != static_cast<int>(bytes)) return damaged(absl::StrCat("wanted ", bytes, " bytes of data, got ", read));
  return data;
}

}  // namespace

absl::StatusOr<ImageListing> ListTuxpaintStamps(const std::vector<std::string>& inputs) {
  ASSIGN_OR_RETURN(const std::string folder, Folder(inputs, kStamps, "tuxpaint-stamps-default"));
  ImageListing listing = {.languages = {"en", "zh"}, .styles = {"stamp"}, .classes = {}, .items = {}, .note = ""};
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".png" && it->is_regular_file()) paths.push_back(it->path().string());
  }
  if (error) return FileError("list the folder", folder, error.value());
  std::sort(paths.begin(), paths.end());
  int64_t unnamed = 0;
  for (const std::string& path : paths) {
    ImageItem item = {.name = path, .captions = {{}, {}}};
    const absl::Status captions = AddStampCaptions(path.substr(0, path.size() - 4) + ".txt", &item);
    unnamed += absl::IsNotFound(captions);
    if (absl::IsNotFound(captions)) continue;
    RETURN_IF_ERROR(captions);
    // For "animals/birds/duck.png" the class is "animals".
    const std::string relative = path.substr(folder.size() + (folder.ends_with('/') ? 0 : 1));
    const size_t slash = relative.find('/');
    if (slash != std::string::npos) item.labels.class_id = IdOf(relative.substr(0, slash), &listing.classes);
    item.load = [path]() -> absl::StatusOr<Image> {
      ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
      return DecodeImage(bytes, path);
    };
    listing.items.push_back(std::move(item));
  }
  if (listing.items.empty()) return absl::InvalidArgumentError(absl::StrCat(folder, " has no stamps"));
  listing.note = absl::StrCat(unnamed, " stamps have no text");
  return listing;
}

absl::StatusOr<ImageListing> ListFashionMnist(const std::vector<std::string>& inputs) {
  ASSIGN_OR_RETURN(const std::string folder, Folder(inputs, kFashion, "dataset-fashion-mnist"));
  constexpr uint32_t kSide = 28, kPixels = kSide * kSide;
  ImageListing listing = {.languages = {"en", "zh"}, .styles = {"photo"}, .classes = {}, .items = {}, .note = ""};
  for (const ClassName& name : kFashionClasses) listing.classes.emplace_back(name.english);
  for (const bool training : {true, false}) {
    const uint32_t count = training ? 60'000 : 10'000;
    const std::string stem = absl::StrCat(folder, training ? "/train" : "/t10k");
    ASSIGN_OR_RETURN(std::vector<uint8_t> read, ReadIdx(stem + "-images-idx3-ubyte.gz", {count, kSide, kSide}));
    ASSIGN_OR_RETURN(const std::vector<uint8_t> labels, ReadIdx(stem + "-labels-idx1-ubyte.gz", {count}));
    const auto pixels = std::make_shared<const std::vector<uint8_t>>(std::move(read));
    for (uint32_t i = 0; i < count; ++i) {
      if (labels[i] >= kFashionClasses.size()) {
        return absl::DataLossError(absl::StrCat(stem, "-labels-idx1-ubyte.gz: label ", i, ", wanted 0 to 9, got ",
                                                static_cast<int>(labels[i])));
      }
      const ClassName& name = kFashionClasses[labels[i]];
      listing.items.push_back({.name = absl::StrCat(stem, " image ", i),
                               .captions = {{name.english}, {name.chinese}},
                               .labels = {.class_id = labels[i], .style_id = 0},
                               .split = training ? ImageSplit::kTraining : ImageSplit::kValidation,
                               .load = [pixels, i]() -> absl::StatusOr<Image> {
                                 Image image = MakeImage(kSide, kSide, 1);
                                 std::copy_n(pixels->begin() + int64_t{i} * kPixels, kPixels, image.pixels.begin());
                                 return image;
                               }});
    }
  }
  return listing;
}

}  // namespace angel_ptm
