// angel-ptm encode: what models of latents read, from images, by frozen encoders.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/train/tasks/encode_images.h"
#include "launch/commands.h"

namespace angel_ptm {
namespace {

// Whether the flag has the second of two values; the first is its default.
absl::StatusOr<bool> IsSecond(const Arguments& arguments, const std::string& flag, const std::string& first,
                              const std::string& second) {
  const std::string value = arguments.Get(flag, first);
  if (value == first || value == second) return value == second;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": wanted ", first, " or ", second, ", got \"", value, "\""));
}

}  // namespace

absl::Status EncodeCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"images", "autoencoder", "output", "split", "cache", "posterior",
                                                      "seed", "isa"}}));
  EncodeImagesOptions options{.cache = arguments.Get("cache", "")};
  ASSIGN_OR_RETURN(options.images, arguments.Require("images"));
  ASSIGN_OR_RETURN(const std::string autoencoder, arguments.Require("autoencoder"));
  ASSIGN_OR_RETURN(const std::string output, arguments.Require("output"));
  ASSIGN_OR_RETURN(options.validation, IsSecond(arguments, "split", "train", "validation"));
  ASSIGN_OR_RETURN(options.draws, IsSecond(arguments, "posterior", "mean", "sample"));
  ASSIGN_OR_RETURN(const int64_t seed, arguments.GetInt("seed", 1));
  options.seed = static_cast<uint64_t>(seed);
  ASSIGN_OR_RETURN(options.inference, InferenceHere(arguments));
  ASSIGN_OR_RETURN(const AutoencoderKlDirectory directory, OpenAutoencoderKl(autoencoder));
  ASSIGN_OR_RETURN(const EncodedImages encoded, EncodeImages(directory, options, output));
  std::printf("%lld latents in %s, %lld from the cache; the encoder took %s\n", static_cast<long long>(encoded.count),
              output.c_str(), static_cast<long long>(encoded.from_cache), FormatBytes(encoded.memory_bytes).c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
