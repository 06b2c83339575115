// angel-ptm encode: captions to the states of frozen text encoders, once, for models that train on or sample with them.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/tasks/text_states.h"
#include "launch/commands.h"

namespace angel_ptm {
namespace {

absl::StatusOr<int64_t> LengthFrom(const Arguments& arguments, const std::string& flag, int64_t otherwise) {
  ASSIGN_OR_RETURN(const int64_t length, arguments.GetInt(flag, otherwise));
  constexpr int64_t kLengthMax = 1 << 16;
  if (length >= 2 && length <= kLengthMax) return length;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted 2 to ", kLengthMax, " tokens, got ", length));
}

}  // namespace

absl::StatusOr<EncodedCounts> EncodeTexts(const Arguments& arguments, const std::vector<std::string>& captions,
                                          const TextLengths& lengths, const InferenceOptions& inference,
                                          const std::string& output) {
  ASSIGN_OR_RETURN(const std::string clip_path, arguments.Require("clip"));
  ASSIGN_OR_RETURN(const std::string t5_path, arguments.Require("t5"));
  ASSIGN_OR_RETURN(const std::unique_ptr<TextEncoder> clip,
                   TextEncoder::Open(TextEncoderKind::kClip, clip_path, lengths.clip, inference));
  ASSIGN_OR_RETURN(const std::unique_ptr<TextEncoder> t5,
                   TextEncoder::Open(TextEncoderKind::kT5, t5_path, lengths.t5, inference));
  return EncodeCaptions(*clip, *t5, captions, {.cache = arguments.Get("cache", output + ".cache"), .notes = stderr},
                        output);
}

absl::Status EncodeCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"clip", "t5", "captions", "output", "cache", "clip-length",
                                                      "t5-length", "device-bytes", "isa"}}));
  ASSIGN_OR_RETURN(const std::string path, arguments.Require("captions"));
  ASSIGN_OR_RETURN(const std::string output, arguments.Require("output"));
  ASSIGN_OR_RETURN(const std::vector<std::string> captions, ReadCaptions(path));
  TextLengths lengths;
  ASSIGN_OR_RETURN(lengths.clip, LengthFrom(arguments, "clip-length", lengths.clip));
  ASSIGN_OR_RETURN(lengths.t5, LengthFrom(arguments, "t5-length", lengths.t5));
  ASSIGN_OR_RETURN(InferenceOptions inference, InferenceHere(arguments));
  ASSIGN_OR_RETURN(inference.device_bytes, arguments.GetInt("device-bytes", 0));
  if (inference.device_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device-bytes: wanted 0 (no budget) or more, got ", inference.device_bytes));
  }
  ASSIGN_OR_RETURN(const EncodedCounts counts, EncodeTexts(arguments, captions, lengths, inference, output));
  std::printf("%lld captions in %s: %lld texts encoded, the others were in the cache\n",
              static_cast<long long>(counts.captions), output.c_str(), static_cast<long long>(counts.encoded));
  return absl::OkStatus();
}

}  // namespace angel_ptm
