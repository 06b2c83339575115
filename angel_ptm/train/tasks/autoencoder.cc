#include "angel_ptm/train/tasks/autoencoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// The limits of diffusers for logarithms of variances.
constexpr float kLogVarianceMin = -30, kLogVarianceMax = 20;

// [pixels, of] columns [first, first + channels) -> [channels, pixels].
void ToPlanes(std::span<const float> rows, int64_t of, int64_t first, int64_t channels, std::span<float> planes) {
  const int64_t pixels = static_cast<int64_t>(planes.size()) / channels;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) planes[c * pixels + pixel] = rows[pixel * of + first + c];
  }
}

absl::Status PlayOnce(Inference& inference, const char* input, std::span<const float> from, const char* output,
                      std::span<float> to) {
  const Graph& graph = inference.graph();
  inference.executor().WriteInput(graph.FindTensor(input), from.data());
  RETURN_IF_ERROR(inference.executor().RunMicroStep(0));
  inference.executor().ReadOutput(graph.FindTensor(output), to.data());
  return absl::OkStatus();
}

ReadParameters ReadFrom(const WeightsReader& weights) {
  return [&weights](UnitId unit, int64_t begin, std::span<float> out) { return weights.Read(unit, begin, out); };
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageEncoder>> ImageEncoder::Create(const AutoencoderKlDirectory& directory,
                                                                   int64_t height, int64_t width,
                                                                   const InferenceOptions& options) {
  const AutoencoderKlShape& shape = directory.shape;
  const int64_t reduction = shape.reduction();
  if (height % reduction != 0 || width % reduction != 0) {
    return absl::InvalidArgumentError(absl::StrCat("images for ", directory.path,
                                                   ": wanted sides that are multiples of ", reduction, ", got ", width,
                                                   " x ", height));
  }
  auto encoder = std::unique_ptr<ImageEncoder>(new ImageEncoder);
  encoder->channels_ = shape.latent_channels;
  encoder->height_ = height / reduction;
  encoder->width_ = width / reduction;
  Graph graph = BuildAutoencoderKlEncoder(shape, height, width);
  ASSIGN_OR_RETURN(const WeightsReader weights, directory.OpenEncoder(*graph.table));
  ASSIGN_OR_RETURN(encoder->digest_, DigestOf(graph, weights, options));
  ASSIGN_OR_RETURN(encoder->inference_,
                   Inference::Create(std::move(graph), ReadFrom(weights), options,
                                     absl::StrCat("the weights of an encoder and an image of ", width, " x ", height)));
  encoder->image_.resize(static_cast<size_t>(height * width * shape.image_channels));
  encoder->moments_.resize(static_cast<size_t>(encoder->height_ * encoder->width_ * 2 * shape.latent_channels));
  return encoder;
}

absl::StatusOr<Posterior> ImageEncoder::Encode(std::span<const uint8_t> pixels) {
  APTM_CHECK(pixels.size() == image_.size(), pixels.size(), " for ", image_.size());
  std::ranges::transform(pixels, image_.begin(), &LevelOfPixel);
  RETURN_IF_ERROR(PlayOnce(*inference_, "image", image_, "moments", moments_));
  Posterior posterior;
  posterior.mean.resize(moments_.size() / 2);
  posterior.std.resize(moments_.size() / 2);
  ToPlanes(moments_, 2 * channels_, 0, channels_, posterior.mean);
  ToPlanes(moments_, 2 * channels_, channels_, channels_, posterior.std);
  for (float& std : posterior.std) std = std::exp(0.5f * std::clamp(std, kLogVarianceMin, kLogVarianceMax));
  return posterior;
}

absl::StatusOr<std::unique_ptr<LatentDecoder>> LatentDecoder::Create(const AutoencoderKlDirectory& directory,
                                                                     int64_t height, int64_t width,
                                                                     const InferenceOptions& options) {
  const AutoencoderKlShape& shape = directory.shape;
  auto decoder = std::unique_ptr<LatentDecoder>(new LatentDecoder);
  decoder->scaling_ = directory.scaling;
  decoder->image_height_ = height * shape.reduction();
  decoder->image_width_ = width * shape.reduction();
  Graph graph = BuildAutoencoderKlDecoder(shape, height, width);
  ASSIGN_OR_RETURN(const WeightsReader weights, directory.OpenDecoder(*graph.table));
  ASSIGN_OR_RETURN(decoder->inference_,
                   Inference::Create(std::move(graph), ReadFrom(weights), options,
                                     absl::StrCat("the weights of a decoder and an image of ", decoder->image_width_,
                                                  " x ", decoder->image_height_)));
  decoder->latent_.resize(static_cast<size_t>(height * width * shape.latent_channels));
  decoder->pixels_.resize(static_cast<size_t>(decoder->image_height_ * decoder->image_width_ * shape.image_channels));
  decoder->planes_.resize(decoder->pixels_.size());
  return decoder;
}

absl::StatusOr<std::span<const float>> LatentDecoder::Decode(std::span<const float> latent) {
  APTM_CHECK(latent.size() == latent_.size(), latent.size(), " for ", latent_.size());
  const int64_t channels = inference_->graph().tensor(inference_->graph().FindTensor("latent")).shape[1];
  const int64_t pixels = static_cast<int64_t>(latent.size()) / channels;
  for (int64_t i = 0; i < pixels * channels; ++i) {
    const int64_t channel = i % channels;
    latent_[i] = static_cast<float>(scaling_.Unscaled(latent[channel * pixels + i / channels], channel));
  }
  RETURN_IF_ERROR(PlayOnce(*inference_, "latent", latent_, "image", pixels_));
  const int64_t colours = static_cast<int64_t>(pixels_.size()) / (image_height_ * image_width_);
  ToPlanes(pixels_, colours, 0, colours, planes_);
  return std::span<const float>(planes_);
}

absl::StatusOr<Image> LatentDecoder::DecodeImage(std::span<const float> latent) {
  ASSIGN_OR_RETURN(const std::span<const float> planes, Decode(latent));
  const int64_t colours = static_cast<int64_t>(planes.size()) / (image_height_ * image_width_);
  return PlanesToImage(planes, static_cast<int32_t>(colours), static_cast<int32_t>(image_height_),
                       static_cast<int32_t>(image_width_));
}

}  // namespace angel_ptm
