#include "angel_ptm/train/tasks/latent_tensors.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/hash.h"

namespace angel_ptm {
namespace {

constexpr double kScaleMin = 0.25, kScaleMax = 4;
constexpr int64_t kSpotChecks = 16;

}  // namespace

absl::Status CheckTensor(const SafetensorsReader& file, const std::string& name, DType dtype, const Shape& shape,
                         const std::string& model) {
  const SafetensorsTensor* tensor = file.Find(name);
  if (tensor == nullptr) return absl::NotFoundError(absl::StrCat(file.path(), " has no tensor ", name));
  const bool narrow = dtype == DType::kFloat32 && tensor->dtype == DType::kBFloat16;
  if (tensor->shape == shape && (tensor->dtype == dtype || narrow)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file.path(), ": tensor ", name, ": wanted ", dtype == DType::kFloat32 ? "F32 or BF16" : Name(dtype), " ",
      shape.ToString(), " for ", model, ", got ", Name(tensor->dtype), " ", tensor->shape.ToString()));
}

absl::StatusOr<int64_t> CountSamples(const SafetensorsReader& file, const std::string& name, const Shape& sample,
                                     const std::string& model) {
  const SafetensorsTensor* tensor = file.Find(name);
  if (tensor == nullptr) return absl::NotFoundError(absl::StrCat(file.path(), " has no tensor ", name));
  const int64_t count = tensor->shape.rank() == sample.rank() + 1 ? tensor->shape[0] : 0;
  if (count == 0) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor ", name, ": wanted [N, ",
                                                   sample.ToString().substr(1), ", N at least 1, got ",
                                                   tensor->shape.ToString()));
  }
  std::vector<int64_t> all = {count};
  for (int i = 0; i < sample.rank(); ++i) all.push_back(sample[i]);
  RETURN_IF_ERROR(CheckTensor(file, name, DType::kFloat32, Shape(all.data(), all.data() + all.size()), model));
  return count;
}

absl::Status ReadFloats(const SafetensorsReader& file, std::string_view name, int64_t row, std::span<float> out,
                        std::span<BFloat16> scratch) {
  const SafetensorsTensor& tensor = *file.Find(name);
  const int64_t begin = row * static_cast<int64_t>(out.size()) * SizeOf(tensor.dtype);
  if (tensor.dtype == DType::kFloat32) return file.Read(tensor, begin, std::as_writable_bytes(out));
  const std::span<BFloat16> narrow = scratch.first(out.size());
  RETURN_IF_ERROR(file.Read(tensor, begin, std::as_writable_bytes(narrow)));
  Widen(out, narrow);
  return absl::OkStatus();
}

std::vector<int64_t> SpotChecks(int64_t count) {
  const int64_t looked_at = std::min(count, kSpotChecks);
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < looked_at; ++i) rows.push_back(looked_at == 1 ? 0 : i * (count - 1) / (looked_at - 1));
  return rows;
}

absl::Status CheckScale(const std::string& path, double mean_square) {
  const double deviation = std::sqrt(mean_square);
  if (deviation >= kScaleMin && deviation <= kScaleMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor latents is not scaled: wanted a root mean square of ",
                                                 kScaleMin, " to ", kScaleMax, ", got ", deviation,
                                                 " (multiply by the autoencoder's scaling_factor)"));
}

absl::StatusOr<std::unique_ptr<ImageLatents>> ImageLatents::Open(const std::string& path, const Shape& sample,
                                                                 const ImageFile& images) {
  ASSIGN_OR_RETURN(SafetensorsReader reader, SafetensorsReader::Open(path));
  ASSIGN_OR_RETURN(const int64_t count, CountSamples(reader, "latents", sample, "model.dit"));
  if (count != images.count()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a latent for each of the ", images.count(),
                                                   " images of ", images.path(), ", got ", count));
  }
  const auto made_of = reader.metadata().find(kLatentImagesKey);
  const std::string wanted = ChecksumText(images.header_xxh64());
  if (made_of != reader.metadata().end() && made_of->second != wanted) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has latents of other images than ", images.path(),
                                                   ": wanted checksum ", wanted, ", got ", made_of->second,
                                                   "; encode them again"));
  }
  auto latents = std::unique_ptr<ImageLatents>(new ImageLatents(std::move(reader)));
  std::vector<float> planes(static_cast<size_t>(sample.elements()));
  std::vector<BFloat16> scratch(planes.size());
  Hasher hasher;
  hasher.Mix(latents->file_.header_checksum()).Mix(static_cast<uint64_t>(latents->file_.file_bytes()));
  double square = 0;
  const std::vector<int64_t> rows = SpotChecks(count);
  for (const int64_t row : rows) {
    RETURN_IF_ERROR(latents->Read(row, planes, scratch));
    for (const float value : planes) square += static_cast<double>(value) * static_cast<double>(value);
    hasher.Mix({reinterpret_cast<const char*>(planes.data()), planes.size() * sizeof(float)});
  }
  latents->digest_ = hasher.Digest();
  RETURN_IF_ERROR(CheckScale(path, square / static_cast<double>(rows.size() * planes.size())));
  return latents;
}

absl::Status ImageLatents::Read(int64_t image, std::span<float> planes, std::span<BFloat16> scratch) const {
  return ReadFloats(file_, "latents", image, planes, scratch);
}

}  // namespace angel_ptm
