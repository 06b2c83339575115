#include "angel_ptm/data/images/image_dataset.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/sealed_json.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "angel-ptm image dataset";

absl::Status Mismatch(const std::string& path, const std::string& what, const std::string& wanted,
                      const std::string& got) {
  return absl::DataLossError(absl::StrCat(path, " does not belong to its folder's dataset.json: ", what, ", wanted ",
                                          wanted, ", got ", got, "; prepare the images again"));
}

// Reads the fields of an object and remembers the first that is wrong.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  template <typename T>
  void Number(const char* key, int64_t least, int64_t most, T* value) {
    const Json& field = At(key);
    const bool whole = field.is_number_integer();
    const int64_t number = whole ? field.get<int64_t>() : 0;
    if (!whole || number < least || number > most) {
      return Wrong(absl::StrCat(key, " should be a whole number from ", least, " to ", most));
    }
    *value = static_cast<T>(number);
  }
  void Checksum(const char* key, uint64_t* value) {
    const Json& field = At(key);
    if (!field.is_string() || !ParseChecksumText(field.get_ref<const std::string&>(), value)) {
      Wrong(absl::StrCat(key, " should be a checksum of 16 hexadecimal digits"));
    }
  }
  void Names(const char* key, size_t least, size_t most, std::vector<std::string>* names) {
    const Json& field = At(key);
    bool good = field.is_array() && field.size() >= least && field.size() <= most;
    for (const Json& name : good ? field : Json::array()) {
      good = good && name.is_string();
      if (good) names->push_back(name.get<std::string>());
    }
    if (!good) Wrong(absl::StrCat(key, " should be a list of ", least, " to ", most, " names"));
  }
  const std::string& wrong() const { return wrong_; }

 private:
  const Json& At(const char* key) const { return json_.contains(key) ? json_[key] : null_; }
  void Wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  const Json& json_;
  const Json null_;
  std::string wrong_;
};

absl::StatusOr<std::unique_ptr<ImageFile>> OpenSplit(const std::string& folder, const std::string& name,
                                                     uint64_t header_xxh64, int64_t images,
                                                     const ImageManifest& manifest) {
  ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(folder, name));
  ASSIGN_OR_RETURN(auto file, ImageFile::Open(path));
  if (file->header_xxh64() != header_xxh64) {
    return Mismatch(path, "its checksum is another", ChecksumText(header_xxh64), ChecksumText(file->header_xxh64()));
  }
  if (file->shape() != manifest.shape || file->count() != images) {
    return Mismatch(path, "its images are others", absl::StrCat(images, " of ", manifest.shape.pixel_bytes(), " bytes"),
                    absl::StrCat(file->count(), " of ", file->shape().pixel_bytes(), " bytes"));
  }
  return file;
}

absl::Status OpenTokenizer(const std::string& folder, ImageDataset* dataset) {
  const ImageManifest& manifest = dataset->manifest;
  ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(folder, "tokenizer.json"));
  ASSIGN_OR_RETURN(dataset->tokenizer_json, ReadFile(path));
  ASSIGN_OR_RETURN(const std::string config_path, DatasetFilePath(folder, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(dataset->tokenizer_config_json, ReadFile(config_path));
  const uint64_t xxh64 = Xxh64(dataset->tokenizer_json), config_xxh64 = Xxh64(dataset->tokenizer_config_json);
  if (xxh64 != manifest.shape.tokenizer_xxh64) {
    return Mismatch(path, "its checksum is another", ChecksumText(manifest.shape.tokenizer_xxh64), ChecksumText(xxh64));
  }
  if (config_xxh64 != manifest.tokenizer_config_xxh64) {
    return Mismatch(config_path, "its checksum is another", ChecksumText(manifest.tokenizer_config_xxh64),
                    ChecksumText(config_xxh64));
  }
  ASSIGN_OR_RETURN(dataset->tokenizer, Tokenizer::FromJson(dataset->tokenizer_json, path));
  if (dataset->tokenizer->vocabulary_size() != manifest.shape.vocabulary_size) {
    return Mismatch(path, "its vocabulary has another size", absl::StrCat(manifest.shape.vocabulary_size),
                    absl::StrCat(dataset->tokenizer->vocabulary_size()));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ImageManifest::ToJson() const {
  const Json json = {{"format", kFormat},
                     {"version", version},
                     {"channels", shape.channels},
                     {"height", shape.height},
                     {"width", shape.width},
                     {"vocabulary_size", shape.vocabulary_size},
                     {"tokenizer_xxh64", ChecksumText(shape.tokenizer_xxh64)},
                     {"tokenizer_config_xxh64", ChecksumText(tokenizer_config_xxh64)},
                     {"train_xxh64", ChecksumText(train_xxh64)},
                     {"validation_xxh64", ChecksumText(validation_xxh64)},
                     {"train_images", train_images},
                     {"validation_images", validation_images},
                     {"skipped", skipped},
                     {"caption_tokens_max", caption_tokens_max},
                     {"languages", languages},
                     {"styles", styles},
                     {"classes", classes}};
  return SealJson(json.dump(2, ' ', false, Json::error_handler_t::replace));
}

absl::StatusOr<ImageManifest> ImageManifest::FromJson(const std::string& text, const std::string& name) {
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not the description of prepared images: ", what));
  };
  bool sealed = false;
  if (const std::string wrong = WrongSeal(text, &sealed); !wrong.empty()) return error(wrong);
  if (!sealed) return error("its first line should hold a checksum");
  if (NestsTooDeep(text)) return error(absl::StrCat("it nests deeper than ", kJsonNestingMax, " levels"));
  const Json json = ParseOrderedJson(text);
  if (!json.is_object()) return error("it is not a JSON object (truncated?)");
  if (!json.contains("format") || json["format"] != Json(kFormat)) {
    return error(absl::StrCat("format should be \"", kFormat, "\"",
                              json.contains("format") && json["format"].is_string()
                                  ? absl::StrCat(", got \"", json["format"].get<std::string>(), "\"")
                                  : std::string()));
  }
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  constexpr size_t kNamesMax = 1 << 20;
  ImageManifest m;
  Fields fields(json);
  fields.Number("version", 1, kImageDatasetVersion, &m.version);
  fields.Number("channels", 1, 3, &m.shape.channels);
  fields.Number("height", 1, kImageSideMax, &m.shape.height);
  fields.Number("width", 1, kImageSideMax, &m.shape.width);
  fields.Number("vocabulary_size", kVocabularySizeMin, std::numeric_limits<int32_t>::max(), &m.shape.vocabulary_size);
  fields.Checksum("tokenizer_xxh64", &m.shape.tokenizer_xxh64);
  fields.Checksum("tokenizer_config_xxh64", &m.tokenizer_config_xxh64);
  fields.Checksum("train_xxh64", &m.train_xxh64);
  fields.Checksum("validation_xxh64", &m.validation_xxh64);
  fields.Number("train_images", 1, kMost, &m.train_images);
  fields.Number("validation_images", 0, kMost, &m.validation_images);
  fields.Number("skipped", 0, kMost, &m.skipped);
  fields.Number("caption_tokens_max", 1, kMost, &m.caption_tokens_max);
  fields.Names("languages", 1, kImageLanguagesMax, &m.languages);
  fields.Names("styles", 1, kNamesMax, &m.styles);
  fields.Names("classes", 0, kNamesMax, &m.classes);
  if (!fields.wrong().empty()) return error(fields.wrong());
  m.shape.languages = static_cast<int32_t>(m.languages.size());
  m.shape.styles = static_cast<int32_t>(m.styles.size());
  m.shape.classes = static_cast<int32_t>(m.classes.size());
  return m;
}

absl::StatusOr<ImageDataset> OpenImageDataset(const std::string& folder) {
  ImageDataset dataset;
  ASSIGN_OR_RETURN(const std::string manifest_path, DatasetFilePath(folder, "dataset.json"));
  absl::StatusOr<std::string> json = ReadFile(manifest_path);
  if (absl::IsNotFound(json.status())) {
    return absl::NotFoundError(
        absl::StrCat(folder, " is not a finished dataset: it has no dataset.json; make one with angel-ptm prepare"));
  }
  RETURN_IF_ERROR(json.status());
  ASSIGN_OR_RETURN(dataset.manifest, ImageManifest::FromJson(*json, manifest_path));
  RETURN_IF_ERROR(OpenTokenizer(folder, &dataset));
  const ImageManifest& manifest = dataset.manifest;
  ASSIGN_OR_RETURN(dataset.train,
                   OpenSplit(folder, "train.images", manifest.train_xxh64, manifest.train_images, manifest));
  if (manifest.validation_images > 0) {
    ASSIGN_OR_RETURN(dataset.validation, OpenSplit(folder, "validation.images", manifest.validation_xxh64,
                                                   manifest.validation_images, manifest));
  }
  return dataset;
}

}  // namespace angel_ptm
