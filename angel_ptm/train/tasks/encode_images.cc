#include "angel_ptm/train/tasks/encode_images.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/model/hunyuan_dit.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/tasks/autoencoder.h"
#include "angel_ptm/train/tasks/latent_tensors.h"

namespace angel_ptm {
namespace {

constexpr int64_t kColours = 3;
constexpr char kAllLanguages[] = "all";

// RGB images of one size.
class ImageSet {
 public:
  static absl::StatusOr<ImageSet> Open(const EncodeImagesOptions& options);
  // Image files, which must have that size.
  ImageSet(std::vector<std::string> paths, int64_t height, int64_t width)
      : paths_(std::move(paths)), height_(height), width_(width) {}

  int64_t count() const { return static_cast<int64_t>(file_ != nullptr ? keys_.size() : paths_.size()); }
  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  const std::vector<std::string>& languages() const { return dataset_.manifest.languages; }
  // `pixels`: [height, width, 3].
  absl::Status Read(int64_t image, std::span<uint8_t> pixels) const;
  // The file of a prepared set's images; null for a folder.
  const ImageFile* file() const { return file_; }
  // Each image's first caption in its language.
  absl::StatusOr<std::vector<std::string>> Captions() const;

 private:
  ImageSet() = default;
  absl::Status OpenDataset(const EncodeImagesOptions& options);
  absl::Status ChooseLanguages(const std::string& asked);
  absl::Status OpenFolder(const std::string& folder);

  ImageDataset dataset_;
  const ImageFile* file_ = nullptr;  // of the data set
  std::vector<CaptionKey> keys_;     // of the data set's images, each with the caption that it comes with
  std::vector<std::string> paths_;   // if there is no data set
  int64_t height_ = 0, width_ = 0;
};

absl::Status NotRgb(const std::string& name, int64_t channels) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": wanted RGB, ", kColours, " channels, got ", channels, " for an autoencoder of colours"));
}

absl::Status ImageSet::OpenDataset(const EncodeImagesOptions& options) {
  ASSIGN_OR_RETURN(dataset_, OpenImageDataset(options.images));
  file_ = options.validation ? dataset_.validation.get() : dataset_.train.get();
  if (file_ == nullptr) return absl::NotFoundError(absl::StrCat(options.images, " has no validation images"));
  if (file_->shape().channels != kColours) return NotRgb(file_->path(), file_->shape().channels);
  height_ = file_->shape().height;
  width_ = file_->shape().width;
  return ChooseLanguages(options.language);
}

absl::Status ImageSet::ChooseLanguages(const std::string& asked) {
  const std::vector<std::string>& languages = dataset_.manifest.languages;
  const bool all = asked == kAllLanguages;
  if (!asked.empty() && !all && std::ranges::find(languages, asked) == languages.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--language: ", file_->path(), " has captions in ",
                                                   absl::StrJoin(languages, ", "), ", wanted one of these or ",
                                                   kAllLanguages, ", got \"", asked, "\""));
  }
  for (int64_t image = 0; image < file_->count(); ++image) {
    for (int32_t language = 0; language < file_->shape().languages; ++language) {
      if (!asked.empty() && !all && languages[static_cast<size_t>(language)] != asked) continue;
      ASSIGN_OR_RETURN(const int32_t there, file_->CaptionCount(image, language));
      if (there == 0) continue;
      keys_.push_back({.image = image, .language = language});
      if (!all) break;
    }
  }
  if (!keys_.empty()) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(file_->path(), " has no images", asked.empty() ? "" : absl::StrCat(" with a caption in ", asked)));
}

absl::Status ImageSet::OpenFolder(const std::string& folder) {
  if (!HasImageLibraries()) {
    return absl::UnimplementedError("this build has no libpng and libjpeg-turbo to read a folder of images with");
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  for (const std::string& name : names) {
    const auto ends = [&](const char* end) { return absl::EndsWithIgnoreCase(name, end); };
    if (ends(".png") || ends(".jpg") || ends(".jpeg")) paths_.push_back(folder + "/" + name);
  }
  if (paths_.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder, " has neither a prepared image data set nor any PNG or JPEG files"));
  }
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(paths_[0]));
  ASSIGN_OR_RETURN(const Image image, DecodeImage(bytes, paths_[0]));
  height_ = image.height;
  width_ = image.width;
  return absl::OkStatus();
}

absl::StatusOr<ImageSet> ImageSet::Open(const EncodeImagesOptions& options) {
  ImageSet set;
  ASSIGN_OR_RETURN(const bool prepared, PathExists(options.images + "/dataset.json"));
  if (!prepared && !options.language.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--language: wanted a data set of angel-ptm prepare, whose captions have "
                     "languages, got the folder of images ",
                     options.images));
  }
  RETURN_IF_ERROR(prepared ? set.OpenDataset(options) : set.OpenFolder(options.images));
  return set;
}

absl::Status ImageSet::Read(int64_t number, std::span<uint8_t> pixels) const {
  if (file_ != nullptr) return file_->ReadPixels(keys_[static_cast<size_t>(number)].image, pixels);
  const std::string& path = paths_[static_cast<size_t>(number)];
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(const Image image, DecodeImage(bytes, path));
  if (image.channels != kColours) return NotRgb(path, image.channels);
  if (image.height != height_ || image.width != width_) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", width_, " x ", height_,
                                                   path == paths_[0] ? "" : " like " + paths_[0], ", got ", image.width,
                                                   " x ", image.height));
  }
  std::ranges::copy(image.pixels, pixels.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ImageSet::Captions() const {
  if (file_ == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        paths_[0],
        " and the images beside it have no captions: wanted --captions FILE, or a data set of angel-ptm prepare"));
  }
  std::vector<std::string> captions;
  for (const CaptionKey& key : keys_) {
    ASSIGN_OR_RETURN(captions.emplace_back(), file_->ReadCaption(key));
  }
  return captions;
}

// Caches posteriors by content of image and encoder, one file each.
class PosteriorCache {
 public:
  PosteriorCache(std::string folder, const ImageEncoder& encoder) : folder_(std::move(folder)), encoder_(encoder) {}

  absl::StatusOr<Posterior> Get(ImageEncoder& encoder, std::span<const uint8_t> pixels);
  int64_t hits() const { return hits_; }

 private:
  std::vector<SafetensorsTensor> Tensors() const {
    const Shape shape = {encoder_.channels(), encoder_.latent_height(), encoder_.latent_width()};
    return {{.name = "mean", .shape = shape}, {.name = "std", .shape = shape}};
  }
  absl::StatusOr<Posterior> Read(const std::string& path) const;
  absl::Status Write(const std::string& path, const Posterior& posterior) const;

  const std::string folder_;
  const ImageEncoder& encoder_;
  int64_t hits_ = 0;
};

absl::StatusOr<Posterior> PosteriorCache::Get(ImageEncoder& encoder, std::span<const uint8_t> pixels) {
  if (folder_.empty()) return encoder.Encode(pixels);
  const std::string path = absl::StrCat(folder_, "/", ChecksumText(encoder.digest()), "-",
                                        ChecksumText(Xxh3(std::as_bytes(pixels))), ".safetensors");
  ASSIGN_OR_RETURN(const bool there, PathExists(path));
  if (there) {
    ++hits_;
    return Read(path);
  }
  ASSIGN_OR_RETURN(Posterior posterior, encoder.Encode(pixels));
  RETURN_IF_ERROR(Write(path, posterior));
  return posterior;
}

absl::StatusOr<Posterior> PosteriorCache::Read(const std::string& path) const {
  ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(path));
  Posterior posterior;
  for (const SafetensorsTensor& wanted : Tensors()) {
    const SafetensorsTensor* const tensor = file.Find(wanted.name);
    if (tensor == nullptr || tensor->shape != wanted.shape || tensor->dtype != wanted.dtype) {
      return absl::DataLossError(absl::StrCat(path, " is no entry of a cache of posteriors: wanted ", wanted.name,
                                              " F32 ", wanted.shape.ToString(), "; remove the file"));
    }
    std::vector<float>& values = wanted.name == "mean" ? posterior.mean : posterior.std;
    values.resize(static_cast<size_t>(wanted.shape.elements()));
    RETURN_IF_ERROR(file.Read(*tensor, 0, std::as_writable_bytes(std::span(values))));
  }
  return posterior;
}

absl::Status PosteriorCache::Write(const std::string& path, const Posterior& posterior) const {
  return WriteSharedSafetensors(path, Tensors(), {}, [&](SafetensorsWriter& writer) -> absl::Status {
    RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(posterior.mean))));
    return writer.Append(std::as_bytes(std::span(posterior.std)));
  });
}

// The latent of a posterior: its mean, or a sample drawn by the image's number.
std::vector<float> LatentOf(const Posterior& posterior, const AutoencoderKlDirectory& autoencoder,
                            const EncodeImagesOptions& options, int64_t number) {
  std::vector<float> latent(posterior.mean.size());
  if (options.draws) {
    FillNormal({.seed = options.seed, .purpose = NoisePurpose::kPosterior, .sample = number}, latent);
    for (size_t i = 0; i < latent.size(); ++i) latent[i] = posterior.mean[i] + posterior.std[i] * latent[i];
  } else {
    latent = posterior.mean;
  }
  const int64_t pixels = static_cast<int64_t>(latent.size()) / autoencoder.shape.latent_channels;
  for (size_t i = 0; i < latent.size(); ++i) {
    latent[i] = static_cast<float>(autoencoder.scaling.Scaled(latent[i], static_cast<int64_t>(i) / pixels));
  }
  return latent;
}

SafetensorsMetadata MetadataOf(const LatentScaling& scaling, const EncodeImagesOptions& options,
                               const ImageSet& images) {
  SafetensorsMetadata metadata = {{"scaling_factor", absl::StrCat(scaling.scaling_factor)},
                                  {"shift_factor", absl::StrCat(scaling.shift_factor)},
                                  {"posterior", options.draws ? absl::StrCat("sample ", options.seed) : "mean"}};
  if (images.file() != nullptr) metadata[kLatentImagesKey] = ChecksumText(images.file()->header_xxh64());
  if (scaling.mean.empty()) return metadata;
  metadata["latents_mean"] = absl::StrJoin(scaling.mean, " ");
  metadata["latents_std"] = absl::StrJoin(scaling.std, " ");
  return metadata;
}

// The images of --conditions, which must have the number and size of the images.
absl::StatusOr<std::optional<ImageSet>> OpenConditions(const EncodeImagesOptions& options, const ImageSet& images) {
  if (options.conditions.empty()) return std::nullopt;
  EncodeImagesOptions of_conditions = options;
  of_conditions.images = options.conditions;
  ASSIGN_OR_RETURN(ImageSet conditions, ImageSet::Open(of_conditions));
  const auto text = [](const ImageSet& set) {
    return absl::StrCat(set.count(), " images of ", set.width(), " x ", set.height());
  };
  if (text(conditions) == text(images)) return std::optional(std::move(conditions));
  return absl::InvalidArgumentError(absl::StrCat(options.conditions, ": wanted a condition for each image of ",
                                                 options.images, ", ", text(images), ", got ", text(conditions)));
}

}  // namespace

absl::StatusOr<EncodedImages> EncodeImages(const AutoencoderKlDirectory& autoencoder,
                                           const EncodeImagesOptions& options, const std::string& output) {
  ASSIGN_OR_RETURN(const ImageSet images, ImageSet::Open(options));
  ASSIGN_OR_RETURN(const std::optional<ImageSet> conditions, OpenConditions(options, images));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageEncoder> encoder,
                   ImageEncoder::Create(autoencoder, images.height(), images.width(), options.inference));
  if (!options.cache.empty()) RETURN_IF_ERROR(MakeDirectories(options.cache));
  PosteriorCache cache(options.cache, *encoder);
  const Shape shape = {images.count(), encoder->channels(), encoder->latent_height(), encoder->latent_width()};
  std::vector<SafetensorsTensor> tensors = {{.name = "latents", .shape = shape},
                                            {.name = "sizes", .shape = {images.count(), kHunyuanSizes}}};
  if (conditions) tensors.push_back({.name = "condition", .shape = shape});
  std::vector<uint8_t> pixels(static_cast<size_t>(images.height() * images.width() * kColours));
  const int64_t all = conditions ? 2 * images.count() : images.count();
  TellProgress(options.progress, "images", 0, all);
  const auto append_latents = [&](SafetensorsWriter& writer, const ImageSet& set, int64_t first) -> absl::Status {
    for (int64_t number = 0; number < set.count(); ++number) {
      RETURN_IF_ERROR(set.Read(number, pixels));
      ASSIGN_OR_RETURN(const Posterior posterior, cache.Get(*encoder, pixels));
      const std::vector<float> latent = LatentOf(posterior, autoencoder, options, first + number);
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(latent))));
      TellProgress(options.progress, "images", first + number + 1, all);
    }
    return absl::OkStatus();
  };
  const auto append = [&](SafetensorsWriter& writer) -> absl::Status {
    RETURN_IF_ERROR(append_latents(writer, images, 0));
    const auto height = static_cast<float>(images.height()), width = static_cast<float>(images.width());
    const std::vector<float> sizes = {height, width, height, width, 0, 0};
    for (int64_t number = 0; number < images.count(); ++number) {
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(sizes))));
    }
    return conditions ? append_latents(writer, *conditions, images.count()) : absl::OkStatus();
  };
  RETURN_IF_ERROR(WriteSafetensors(output, tensors, MetadataOf(autoencoder.scaling, options, images), append));
  return EncodedImages{images.count(), cache.hits(), encoder->memory_bytes()};
}

absl::Status EncodeConditions(const AutoencoderKlDirectory& autoencoder, const std::vector<std::string>& paths,
                              int64_t count, int64_t height, int64_t width, const InferenceOptions& options,
                              const std::string& output) {
  const int64_t reduction = autoencoder.shape.reduction();
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageEncoder> encoder,
                   ImageEncoder::Create(autoencoder, height * reduction, width * reduction, options));
  const ImageSet images(paths, height * reduction, width * reduction);
  const std::vector<SafetensorsTensor> tensors = {
      {.name = "condition", .shape = {count, encoder->channels(), height, width}}};
  return WriteSafetensors(output, tensors, {}, [&](SafetensorsWriter& writer) -> absl::Status {
    std::vector<uint8_t> pixels(static_cast<size_t>(images.height() * images.width() * kColours));
    const std::vector<float> none(static_cast<size_t>(tensors[0].shape.elements() / count));
    std::vector<float> latent;
    for (int64_t number = 0; number < count; ++number) {
      const auto at = static_cast<size_t>(number);
      if (number >= images.count()) {
        latent = none;
      } else if (number == 0 || paths[at] != paths[at - 1]) {  // all prompts may have the same one
        RETURN_IF_ERROR(images.Read(number, pixels));
        ASSIGN_OR_RETURN(const Posterior posterior, encoder->Encode(pixels));
        latent = LatentOf(posterior, autoencoder, {}, number);
      }
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(latent))));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<int64_t> CountImages(const EncodeImagesOptions& options) {
  ASSIGN_OR_RETURN(const ImageSet images, ImageSet::Open(options));
  return images.count();
}

absl::StatusOr<CaptionsOfImages> ImageCaptions(const EncodeImagesOptions& options) {
  ASSIGN_OR_RETURN(const ImageSet images, ImageSet::Open(options));
  CaptionsOfImages read;
  ASSIGN_OR_RETURN(read.captions, images.Captions());
  const std::vector<std::string>& languages = images.languages();
  if (options.language.empty() && languages.size() > 1) {
    read.note =
        absl::StrCat("captions are in ", languages[0], " where an image has one in it; --language ", kAllLanguages,
                     " encodes those in ", absl::StrJoin(languages.begin() + 1, languages.end(), ", "), ", too");
  }
  return read;
}

absl::StatusOr<std::vector<GeneratedImage>> DecodeLatentFile(const std::string& path,
                                                             const AutoencoderKlDirectory& autoencoder,
                                                             const InferenceOptions& options,
                                                             const ReportProgress& progress) {
  ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(path));
  const SafetensorsTensor* const latents = file.Find("latents");
  const SafetensorsTensor* const samples = file.Find("samples");
  const int64_t channels = autoencoder.shape.latent_channels;
  if (latents == nullptr || latents->shape.rank() != 4 || latents->shape[1] != channels ||
      latents->dtype != DType::kFloat32) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted latents F32 [N, ", channels, ", height, width] for ",
                                                   autoencoder.path, ", got ",
                                                   latents == nullptr ? "none" : latents->shape.ToString()));
  }
  const int64_t count = latents->shape[0];
  std::vector<int32_t> numbers(static_cast<size_t>(count));
  if (samples == nullptr || samples->shape != Shape{count} || samples->dtype != DType::kInt32) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted samples I32 [", count, "]"));
  }
  RETURN_IF_ERROR(file.Read(*samples, 0, std::as_writable_bytes(std::span(numbers))));
  ASSIGN_OR_RETURN(const std::unique_ptr<LatentDecoder> decoder,
                   LatentDecoder::Create(autoencoder, latents->shape[2], latents->shape[3], options));
  const std::vector<std::string> prompts = FactsFrom(file.metadata()).prompts;
  std::vector<float> latent(static_cast<size_t>(latents->shape.elements() / count));
  const auto latent_bytes = static_cast<int64_t>(latent.size() * sizeof(float));
  std::vector<GeneratedImage> images;
  TellProgress(progress, "images decoded", 0, count);
  for (int64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(file.Read(*latents, i * latent_bytes, std::as_writable_bytes(std::span(latent))));
    ASSIGN_OR_RETURN(Image image, decoder->DecodeImage(latent));
    const int64_t number = numbers[static_cast<size_t>(i)];
    const bool named = number >= 0 && number < static_cast<int64_t>(prompts.size());
    images.push_back(
        {named ? prompts[static_cast<size_t>(number)] : absl::StrCat("sample ", number), std::move(image)});
    TellProgress(progress, "images decoded", i + 1, count);
  }
  return images;
}

absl::StatusOr<bool> DecodeSamples(const std::string& folder, const AutoencoderKlDirectory& autoencoder,
                                   const InferenceOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  if (std::ranges::find(names, "samples.jsonl") != names.end()) return false;
  SamplingFacts facts;
  std::vector<GeneratedImage> images;
  for (const std::string& name : names) {
    if (!name.starts_with("latents") || !name.ends_with(".safetensors")) continue;
    const std::string path = absl::StrCat(folder, "/", name);
    ASSIGN_OR_RETURN(std::vector<GeneratedImage> more, DecodeLatentFile(path, autoencoder, options));
    std::ranges::move(more, std::back_inserter(images));
    ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(path));
    facts = FactsFrom(file.metadata());
  }
  if (images.empty()) return false;
  RETURN_IF_ERROR(WriteImages(folder, facts, std::move(images)).status());
  return true;
}

}  // namespace angel_ptm
