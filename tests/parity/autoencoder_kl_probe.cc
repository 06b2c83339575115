// Writes what autoencoder_kl_parity.py compares: what an AutoencoderKL of a diffusers directory makes of given images
// and latents.
//
//   autoencoder_kl_probe MODEL INPUT OUTPUT
//
// INPUT is a safetensors file with levels [N, height, width, 3], whole numbers of 0 to 255, and latents
// [N, channels, height, width], scaled, both F32; OUTPUT gets mean and std like the latents and decoded
// [N, 3, height, width]. One thread.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/train/tasks/autoencoder.h"

namespace angel_ptm {
namespace {

absl::StatusOr<std::vector<float>> ReadFloats(const SafetensorsReader& file, const char* name, Shape& shape) {
  const SafetensorsTensor* const tensor = file.Find(name);
  if (tensor == nullptr) return absl::NotFoundError(name);
  shape = tensor->shape;
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  RETURN_IF_ERROR(file.Read(*tensor, 0, std::as_writable_bytes(std::span(values))));
  return values;
}

absl::Status Probe(const std::string& model, const std::string& input, const std::string& output) {
  ASSIGN_OR_RETURN(const AutoencoderKlDirectory directory, OpenAutoencoderKl(model));
  ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(input));
  Shape images, latents;
  ASSIGN_OR_RETURN(const std::vector<float> levels, ReadFloats(file, "levels", images));
  ASSIGN_OR_RETURN(const std::vector<float> scaled, ReadFloats(file, "latents", latents));
  const InferenceOptions options;
  ASSIGN_OR_RETURN(const auto encoder, ImageEncoder::Create(directory, images[1], images[2], options));
  ASSIGN_OR_RETURN(const auto decoder, LatentDecoder::Create(directory, latents[2], latents[3], options));
  std::printf("encoder %s, decoder %s\n", FormatBytes(encoder->memory_bytes()).c_str(),
              FormatBytes(decoder->memory_bytes()).c_str());
  const size_t pixels = levels.size() / static_cast<size_t>(images[0]);
  const size_t elements = scaled.size() / static_cast<size_t>(images[0]);
  std::vector<float> mean, std, decoded;
  for (size_t i = 0; i < static_cast<size_t>(images[0]); ++i) {
    std::vector<uint8_t> image(pixels);
    std::transform(levels.begin() + static_cast<int64_t>(i * pixels),
                   levels.begin() + static_cast<int64_t>((i + 1) * pixels), image.begin(),
                   [](float level) { return static_cast<uint8_t>(level); });
    ASSIGN_OR_RETURN(const Posterior posterior, encoder->Encode(image));
    mean.insert(mean.end(), posterior.mean.begin(), posterior.mean.end());
    std.insert(std.end(), posterior.std.begin(), posterior.std.end());
    ASSIGN_OR_RETURN(const std::span<const float> planes,
                     decoder->Decode(std::span(scaled).subspan(i * elements, elements)));
    decoded.insert(decoded.end(), planes.begin(), planes.end());
  }
  ASSIGN_OR_RETURN(SafetensorsWriter writer,
                   SafetensorsWriter::Create(output,
                                             {{.name = "mean", .shape = latents},
                                              {.name = "std", .shape = latents},
                                              {.name = "decoded", .shape = {images[0], 3, images[1], images[2]}}},
                                             {}));
  for (const std::vector<float>* values : {&mean, &std, &decoded}) {
    RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(*values))));
  }
  return writer.Finish();
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "autoencoder_kl_probe MODEL INPUT OUTPUT\n");
    return 1;
  }
  const absl::Status status = angel_ptm::Probe(argv[1], argv[2], argv[3]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "autoencoder_kl_probe: %s\n", std::string(status.message()).c_str());
  return 1;
}
