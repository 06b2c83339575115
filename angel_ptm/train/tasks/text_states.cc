#include "angel_ptm/train/tasks/text_states.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/safetensors.h"

namespace angel_ptm {
namespace {

constexpr char kStates[] = "states", kChecksumKey[] = "xxh3";
constexpr int64_t kTextsAtOnce = 64;  // between two writes to the cache
constexpr int64_t kCutsNamed = 20;    // cut captions per encoder that are named; the others are counted

// The texts of one encoder, and where the cache has their states.
class CachedStates {
 public:
  CachedStates(TextEncoder& encoder, const EncodeCaptionsOptions& options, const char* name)
      : encoder_(encoder), options_(options), name_(name) {}

  // Makes the states that the cache does not have.
  absl::Status Prepare(const std::vector<std::string>& captions);
  // Reads the states of a caption, by its index.
  absl::Status Read(size_t caption, std::span<float> states) const { return ReadFrom(files_[caption], states); }
  void FillMask(size_t caption, std::span<int32_t> mask) const {
    std::ranges::fill(mask, 0);
    std::fill_n(mask.begin(), texts_[caption].ids.size(), 1);
  }
  int64_t encoded() const { return encoded_; }
  // `what` is done with so many captions, or texts.
  void Tell(const char* what, size_t done, size_t all) const {
    TellProgress(options_.progress, absl::StrCat(what, " for ", name_), static_cast<int64_t>(done),
                 static_cast<int64_t>(all));
  }
  const TextEncoder& encoder() const { return encoder_; }
  const std::string& name() const { return name_; }

 private:
  size_t elements() const { return static_cast<size_t>(encoder_.length() * encoder_.width()); }
  absl::Status ReadFrom(const std::string& path, std::span<float> states) const;
  absl::Status WriteTo(const std::string& path, std::span<const float> states) const;
  absl::Status EncodeSome(std::span<const std::pair<std::string, size_t>> missing);

  TextEncoder& encoder_;
  const EncodeCaptionsOptions& options_;
  const std::string name_;
  std::vector<CaptionPieces> texts_;
  std::vector<std::string> files_;
  int64_t encoded_ = 0;
};

absl::Status CachedStates::ReadFrom(const std::string& path, std::span<float> states) const {
  ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(path));
  const SafetensorsTensor* const tensor = file.Find(kStates);
  const auto checksum = file.metadata().find(kChecksumKey);
  if (tensor == nullptr || tensor->dtype != DType::kFloat32 ||
      tensor->shape != Shape{encoder_.length(), encoder_.width()} || checksum == file.metadata().end()) {
    return absl::DataLossError(absl::StrCat(path, " is damaged: it has no states of the encoder's shape"));
  }
  RETURN_IF_ERROR(file.Read(*tensor, 0, std::as_writable_bytes(states)));
  if (checksum->second == ChecksumText(Xxh3(std::as_bytes(states)))) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, " is damaged: its checksum is not ", checksum->second));
}

absl::Status CachedStates::WriteTo(const std::string& path, std::span<const float> states) const {
  return WriteSharedSafetensors(path, {{kStates, DType::kFloat32, {encoder_.length(), encoder_.width()}}},
                                {{kChecksumKey, ChecksumText(Xxh3(std::as_bytes(states)))}},
                                [&](SafetensorsWriter& writer) { return writer.Append(std::as_bytes(states)); });
}

absl::Status CachedStates::EncodeSome(std::span<const std::pair<std::string, size_t>> missing) {
  std::vector<CaptionPieces> texts;
  for (const auto& [path, caption] : missing) texts.push_back(texts_[caption]);
  std::vector<float> states(texts.size() * elements());
  RETURN_IF_ERROR(encoder_.Encode(texts, states));
  for (size_t i = 0; i < missing.size(); ++i) {
    RETURN_IF_ERROR(WriteTo(missing[i].first, std::span(states).subspan(i * elements(), elements())));
  }
  encoded_ += static_cast<int64_t>(missing.size());
  return absl::OkStatus();
}

absl::Status CachedStates::Prepare(const std::vector<std::string>& captions) {
  ASSIGN_OR_RETURN(const uint64_t digest, encoder_.Digest());
  std::map<std::string, size_t> missing;  // from a file to a caption whose states it will have
  int64_t cut = 0;
  std::vector<float> states(elements());
  for (size_t caption = 0; caption < captions.size(); ++caption) {
    Tell("captions looked up", caption, captions.size());
    texts_.push_back(encoder_.Pieces(captions[caption]));
    const CaptionPieces& text = texts_.back();
    if (!text.dropped.empty() && options_.notes != nullptr && ++cut <= kCutsNamed) {
      std::fprintf(options_.notes, "warning: caption %zu is longer than the %lld tokens of %s, dropped \"%s\"\n",
                   caption + 1, static_cast<long long>(encoder_.length()), name_.c_str(), text.dropped.c_str());
    }
    const uint64_t of_text = Xxh3(std::as_bytes(std::span(text.ids)));
    files_.push_back(absl::StrCat(options_.cache, "/", ChecksumText(digest), "-", ChecksumText(of_text), "-",
                                  text.ids.size(), ".safetensors"));
    if (missing.contains(files_.back())) continue;
    ASSIGN_OR_RETURN(const bool there, PathExists(files_.back()));
    const absl::Status read = there ? ReadFrom(files_.back(), states) : absl::OkStatus();
    if (there && read.ok()) continue;
    if (there && options_.notes != nullptr) {
      std::fprintf(options_.notes, "note: %s: the text is encoded again\n", std::string(read.message()).c_str());
    }
    missing[files_.back()] = caption;
  }
  if (cut > kCutsNamed) {
    std::fprintf(options_.notes, "warning: %s more, cut to the %lld tokens of %s\n",
                 Counted(cut - kCutsNamed, "caption").c_str(), static_cast<long long>(encoder_.length()),
                 name_.c_str());
  }
  const std::vector<std::pair<std::string, size_t>> all(missing.begin(), missing.end());
  for (size_t at = 0; at < all.size(); at += kTextsAtOnce) {
    Tell("texts encoded", at, all.size());
    RETURN_IF_ERROR(EncodeSome(std::span(all).subspan(at, std::min<size_t>(kTextsAtOnce, all.size() - at))));
  }
  return absl::OkStatus();
}

// The tensors of one encoder: of all captions but the last, which is the empty one, and those of the empty one.
void AddTensors(const CachedStates& states, int64_t count, std::vector<SafetensorsTensor>* tensors) {
  const int64_t length = states.encoder().length(), width = states.encoder().width();
  const std::string& name = states.name();
  tensors->push_back({name, DType::kFloat32, {count, length, width}});
  tensors->push_back({name + "_mask", DType::kInt32, {count, length}});
  tensors->push_back({"empty_" + name, DType::kFloat32, {length, width}});
  tensors->push_back({"empty_" + name + "_mask", DType::kInt32, {length}});
}

absl::Status AppendTensors(const CachedStates& states, size_t count, SafetensorsWriter& writer) {
  std::vector<float> values(static_cast<size_t>(states.encoder().length() * states.encoder().width()));
  std::vector<int32_t> mask(static_cast<size_t>(states.encoder().length()));
  for (const auto& [first, last] : {std::pair<size_t, size_t>(0, count), std::pair<size_t, size_t>(count, count + 1)}) {
    for (size_t caption = first; caption < last; ++caption) {
      states.Tell("captions written", caption, count + 1);
      RETURN_IF_ERROR(states.Read(caption, values));
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    }
    for (size_t caption = first; caption < last; ++caption) {
      states.FillMask(caption, mask);
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(mask))));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EncodedCounts> EncodeCaptions(TextEncoder& clip, TextEncoder& t5,
                                             const std::vector<std::string>& captions,
                                             const EncodeCaptionsOptions& options, const std::string& output) {
  RETURN_IF_ERROR(MakeDirectories(options.cache));
  std::vector<std::string> all = captions;
  all.emplace_back();
  CachedStates of_clip(clip, options, "clip"), of_t5(t5, options, "t5");
  std::vector<SafetensorsTensor> tensors;
  for (CachedStates* states : {&of_clip, &of_t5}) {
    RETURN_IF_ERROR(states->Prepare(all));
    AddTensors(*states, static_cast<int64_t>(captions.size()), &tensors);
  }
  const auto append = [&](SafetensorsWriter& writer) -> absl::Status {
    RETURN_IF_ERROR(AppendTensors(of_clip, captions.size(), writer));
    return AppendTensors(of_t5, captions.size(), writer);
  };
  RETURN_IF_ERROR(WriteSafetensors(output, tensors, {}, append));
  return EncodedCounts{static_cast<int64_t>(captions.size()), of_clip.encoded() + of_t5.encoded()};
}

}  // namespace angel_ptm
