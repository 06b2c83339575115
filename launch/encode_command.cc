// angel-ptm encode: makes the data with which models of latents train and sample, by frozen encoders: images become
// latents, captions become states.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/tasks/encode_images.h"
#include "angel_ptm/train/tasks/prompt_files.h"
#include "angel_ptm/train/tasks/text_states.h"
#include "launch/commands.h"
#include "launch/progress_lines.h"

namespace angel_ptm {
namespace {

// Whether the flag has the second of its two values; the first is the default.
absl::StatusOr<bool> IsSecond(const Arguments& arguments, const std::string& flag, const std::string& first,
                              const std::string& second) {
  const std::string value = arguments.Get(flag, first);
  if (value == first || value == second) return value == second;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": wanted ", first, " or ", second, ", got \"", value, "\""));
}

absl::StatusOr<int64_t> LengthFrom(const Arguments& arguments, const std::string& flag, int64_t otherwise) {
  ASSIGN_OR_RETURN(const int64_t length, arguments.GetInt(flag, otherwise));
  constexpr int64_t kLengthMax = 1 << 16;
  if (length >= 2 && length <= kLengthMax) return length;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted 2 to ", kLengthMax, " tokens, got ", length));
}

// Refuses flags that only apply to something that is not encoded.
absl::Status RefuseWithout(const char* absent, const Arguments& arguments, const std::vector<std::string>& flags) {
  for (const std::string& flag : flags) {
    if (!arguments.Has(flag)) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": no ", absent, " are encoded that it is for"));
  }
  return absl::OkStatus();
}

// What to encode, and with what.
struct Work {
  std::string output, cache;
  std::optional<EncodeImagesOptions> images;
  std::optional<AutoencoderKlDirectory> autoencoder;
  std::vector<std::string> captions;  // empty: no texts
  TextLengths lengths;
  InferenceOptions inference;
  ReportProgress progress;
};

absl::Status TakeImages(const Arguments& arguments, Work& work) {
  EncodeImagesOptions options{.cache = work.cache, .inference = work.inference, .progress = work.progress};
  ASSIGN_OR_RETURN(options.images, arguments.Require("images"));
  options.conditions = arguments.Get("conditions", "");
  ASSIGN_OR_RETURN(options.validation, IsSecond(arguments, "split", "train", "validation"));
  ASSIGN_OR_RETURN(options.draws, IsSecond(arguments, "posterior", "mean", "sample"));
  ASSIGN_OR_RETURN(options.seed, arguments.GetUint("seed", 1));
  options.language = arguments.Get("language", "");
  ASSIGN_OR_RETURN(const std::string path, arguments.Require("autoencoder"));
  ASSIGN_OR_RETURN(work.autoencoder, OpenAutoencoderKl(path));
  work.images = std::move(options);
  return absl::OkStatus();
}

absl::Status TakeTexts(const Arguments& arguments, Work& work) {
  ASSIGN_OR_RETURN(work.lengths.clip, LengthFrom(arguments, "clip-length", work.lengths.clip));
  ASSIGN_OR_RETURN(work.lengths.t5, LengthFrom(arguments, "t5-length", work.lengths.t5));
  if (!work.images.has_value()) {
    ASSIGN_OR_RETURN(const std::string path, arguments.Require("captions"));
    ASSIGN_OR_RETURN(work.captions, ReadCaptions(path));
    return absl::OkStatus();
  }
  if (!arguments.Has("captions")) {
    ASSIGN_OR_RETURN(CaptionsOfImages read, ImageCaptions(*work.images));
    if (!read.note.empty()) std::fprintf(stderr, "note: %s\n", read.note.c_str());
    work.captions = std::move(read.captions);
    return absl::OkStatus();
  }
  const std::string path = arguments.Get("captions", "");
  ASSIGN_OR_RETURN(work.captions, ReadCaptions(path));
  ASSIGN_OR_RETURN(const int64_t count, CountImages(*work.images));
  if (static_cast<int64_t>(work.captions.size()) == count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--captions: ", path, ": wanted a caption for each of the ", count,
                                                 " images of ", work.images->images, ", got ", work.captions.size()));
}

absl::StatusOr<Work> WorkFrom(const Arguments& arguments, const ReportProgress& progress) {
  Work work{.progress = progress};
  ASSIGN_OR_RETURN(work.output, arguments.Require("output"));
  work.cache = arguments.Get("cache", work.output + ".cache");
  ASSIGN_OR_RETURN(work.inference, InferenceHere(arguments));
  RETURN_IF_ERROR(TakeBudgets(arguments, work.inference));
  const bool images = arguments.Has("images") || arguments.Has("autoencoder");
  const bool texts = arguments.Has("clip") || arguments.Has("t5") || arguments.Has("captions");
  if (!images && !texts) {
    return absl::InvalidArgumentError(
        "nothing to encode: wanted --images and --autoencoder, or --clip, --t5 and --captions, or all of them");
  }
  RETURN_IF_ERROR(images
                      ? TakeImages(arguments, work)
                      : RefuseWithout("images", arguments, {"conditions", "split", "language", "posterior", "seed"}));
  RETURN_IF_ERROR(texts ? TakeTexts(arguments, work)
                        : RefuseWithout("captions", arguments, {"clip-length", "t5-length", "text-compute"}));
  return work;
}

absl::Status EncodeImagesTo(const Work& work, const std::string& output) {
  ASSIGN_OR_RETURN(const EncodedImages encoded, EncodeImages(*work.autoencoder, *work.images, output));
  std::printf("%lld latents in %s, %lld from the cache; the encoder took %s\n", static_cast<long long>(encoded.count),
              work.output.c_str(), static_cast<long long>(encoded.from_cache),
              FormatBytes(encoded.memory_bytes).c_str());
  return absl::OkStatus();
}

absl::Status EncodeTextsTo(const Arguments& arguments, const Work& work, const std::string& output) {
  ASSIGN_OR_RETURN(const EncodedCounts counts, EncodeTexts(arguments, work.captions, work.lengths, work.inference,
                                                           work.progress, work.cache, output));
  std::printf("%lld captions in %s: %lld texts encoded, the others were in the cache\n",
              static_cast<long long>(counts.captions), work.output.c_str(), static_cast<long long>(counts.encoded));
  return absl::OkStatus();
}

// Encodes each part into a file of its own, and joins these.
absl::Status EncodeBothTo(const Arguments& arguments, const Work& work, const std::string& output) {
  const std::vector<std::string> parts = {output + ".texts", output + ".latents"};
  absl::Status status = EncodeTextsTo(arguments, work, parts[0]);
  if (status.ok()) status = EncodeImagesTo(work, parts[1]);
  if (status.ok()) status = JoinSafetensors(parts, output);
  for (const std::string& part : parts) status.Update(RemoveFile(part));
  return status;
}

}  // namespace

absl::Status TakeBudgets(const Arguments& arguments, InferenceOptions& inference) {
  for (const auto& [flag, bytes] :
       {std::pair("device-bytes", &inference.device_bytes), std::pair("host-bytes", &inference.host_bytes)}) {
    ASSIGN_OR_RETURN(*bytes, arguments.GetBytes(flag, 0));
    if (*bytes >= 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted 0 (no budget) or more, got ", *bytes));
  }
  if (!arguments.Has("nvme-directory")) return absl::OkStatus();
  if (inference.device_bytes == 0 || inference.host_bytes == 0) {
    return absl::InvalidArgumentError(
        "--nvme-directory: no weights rest in files without budgets, wanted --device-bytes and --host-bytes");
  }
  inference.nvme.set_directory(arguments.Get("nvme-directory", ""));
  return absl::OkStatus();
}

absl::StatusOr<EncodedCounts> EncodeTexts(const Arguments& arguments, const std::vector<std::string>& captions,
                                          const TextLengths& lengths, const InferenceOptions& inference,
                                          const ReportProgress& progress, const std::string& cache,
                                          const std::string& output) {
  ASSIGN_OR_RETURN(const bool narrow, IsSecond(arguments, "text-compute", "FP32", "BF16"));
  const DType compute = narrow ? DType::kBFloat16 : DType::kFloat32;
  ASSIGN_OR_RETURN(const std::string clip_path, arguments.Require("clip"));
  ASSIGN_OR_RETURN(const std::string t5_path, arguments.Require("t5"));
  ASSIGN_OR_RETURN(const std::unique_ptr<TextEncoder> clip,
                   TextEncoder::Open(TextEncoderKind::kClip, clip_path, lengths.clip, inference, compute));
  ASSIGN_OR_RETURN(const std::unique_ptr<TextEncoder> t5,
                   TextEncoder::Open(TextEncoderKind::kT5, t5_path, lengths.t5, inference, compute));
  return EncodeCaptions(*clip, *t5, captions, {.cache = cache, .notes = stderr, .progress = progress}, output);
}

absl::Status EncodeCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"output", "images", "conditions", "autoencoder", "split",
                                                      "language", "posterior", "seed", "clip", "t5", "captions",
                                                      "clip-length", "t5-length", "cache", "device-bytes", "host-bytes",
                                                      "nvme-directory", "text-compute", "isa"}}));
  ProgressLines lines("encode");
  ASSIGN_OR_RETURN(const Work work, WorkFrom(arguments, lines.Reporter()));
  // Two processes that encode one file would overwrite each other's parts and join them.
  ASSIGN_OR_RETURN(const OutputLock lock, OutputLock::Take(work.output + ".encoding", "--output"));
  if (work.captions.empty()) return EncodeImagesTo(work, work.output);
  if (!work.images.has_value()) return EncodeTextsTo(arguments, work, work.output);
  return EncodeBothTo(arguments, work, work.output);
}

}  // namespace angel_ptm
