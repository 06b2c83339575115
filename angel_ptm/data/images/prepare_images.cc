#include "angel_ptm/data/images/prepare_images.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/data/bpe_trainer.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/images/edges.h"
#include "angel_ptm/data/permutation.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kNamedMax = 20;  // damaged images that the report names

const std::string& FirstCaption(const ImageItem& item) {
  for (const auto& captions : item.captions) {
    if (!captions.empty()) return captions[0];
  }
  return item.name;
}

bool MatchesAny(const std::string& text, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return MatchesPattern(text, p); });
}

class ImagePreparation {
 public:
  ImagePreparation(const ImageListing& listing, const PrepareImagesOptions& options)
      : listing_(listing), options_(options) {
    report_.output = options.output;
    report_.note = listing.note;
    report_.vocabulary_asked = options.vocabulary_size;
    report_.captions.resize(listing.languages.size());
    ImageManifest& manifest = report_.manifest;
    manifest.languages = listing.languages;
    manifest.styles = listing.styles;
    manifest.classes = listing.classes;
    manifest.shape = {.channels = options.channels,
                      .height = options.height,
                      .width = options.width,
                      .languages = static_cast<int32_t>(listing.languages.size()),
                      .classes = static_cast<int32_t>(listing.classes.size()),
                      .styles = static_cast<int32_t>(listing.styles.size())};
  }

  absl::StatusOr<PrepareImagesReport> Run() {
    const Clock::time_point start = Clock::now();
    RETURN_IF_ERROR(Choose());
    RETURN_IF_ERROR(MakeTokenizer());
    RETURN_IF_ERROR(Write());
    report_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(report_);
  }

 private:
  // Fills training_ and validation_.
  absl::Status Choose() {
    std::vector<const ImageItem*> kept;
    for (const ImageItem& item : listing_.items) {
      const std::string& caption = FirstCaption(item);
      if (!options_.keep.empty() && !MatchesAny(caption, options_.keep)) continue;
      if (!MatchesAny(caption, options_.leave_out)) kept.push_back(&item);
    }
    const size_t most = options_.images_max > 0 ? static_cast<size_t>(options_.images_max) : kept.size();
    if (most < kept.size()) {
      std::vector<const ImageItem*> spread;
      for (size_t i = 0; i < most; ++i) spread.push_back(kept[i * kept.size() / most]);
      kept = std::move(spread);
    }
    std::vector<const ImageItem*> undecided;
    for (const ImageItem* item : kept) {
      if (item->split == ImageSplit::kAny) undecided.push_back(item);
    }
    const int64_t open = static_cast<int64_t>(undecided.size());
    const int64_t held_out = static_cast<int64_t>(options_.validation_fraction * static_cast<double>(open));
    std::vector<const ImageItem*> chosen;
    for (int64_t i = 0; i < held_out; ++i) {
      chosen.push_back(undecided[static_cast<size_t>(Permutation(open, options_.seed, 0)(i))]);
    }
    std::sort(chosen.begin(), chosen.end());
    for (const ImageItem* item : kept) {
      const bool drawn = std::binary_search(chosen.begin(), chosen.end(), item);
      if (!drawn && item->split != ImageSplit::kValidation) {
        training_.push_back(item);
      } else if (options_.validation_fraction > 0) {
        validation_.push_back(item);
      }
    }
    if (!training_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("no image is left for training: of ", listing_.items.size(),
                                                   " images, ", kept.size(), " fit the patterns and ",
                                                   validation_.size(), " are held out"));
  }

  absl::Status MakeTokenizer() {
    WordCounter words;
    for (const ImageItem* item : training_) {
      for (const auto& captions : item->captions) {
        for (const std::string& caption : captions) words.Add(caption);
      }
    }
    BpeTrainerOptions trainer;
    trainer.merges = options_.vocabulary_size - kVocabularySizeMin;
    trainer.exact = false;
    ASSIGN_OR_RETURN(const std::vector<BpeMerge> merges, TrainBpe(words.counts(), trainer));
    tokenizer_ = Tokenizer::FromMerges(merges);
    report_.manifest.shape.vocabulary_size = tokenizer_->vocabulary_size();
    return absl::OkStatus();
  }

  absl::Status Write() {
    ImageManifest& manifest = report_.manifest;
    const std::string tokenizer_json = tokenizer_->ToJson(), config_json = tokenizer_->ToConfigJson();
    manifest.shape.tokenizer_xxh64 = Xxh64(tokenizer_json);
    manifest.tokenizer_config_xxh64 = Xxh64(config_json);
    ASSIGN_OR_RETURN(UnfinishedDataset output, UnfinishedDataset::Create(options_.output));
    ASSIGN_OR_RETURN(ImageFileWriter train, ImageFileWriter::Create(output.Path("train.images"), manifest.shape));
    ASSIGN_OR_RETURN(ImageFileWriter validation,
                     ImageFileWriter::Create(output.Path("validation.images"), manifest.shape));
    Tokenizer::Encoder encoder(*tokenizer_);
    int64_t done = 0;
    const auto add = [&](const std::vector<const ImageItem*>& items, ImageFileWriter* file) -> absl::Status {
      for (const ImageItem* item : items) {
        TellProgress(options_.progress, "images", done++, static_cast<int64_t>(training_.size() + validation_.size()));
        RETURN_IF_ERROR(Add(*item, &encoder, file));
      }
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(add(training_, &train));
    RETURN_IF_ERROR(add(validation_, &validation));
    if (train.count() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("all ", training_.size(), " images are damaged, the first: ", report_.damaged[0]));
    }
    for (ImageFileWriter* split : {&train, &validation}) {
      RETURN_IF_ERROR(split->Finish());
      RETURN_IF_ERROR(split->Commit());
    }
    manifest.train_xxh64 = train.header_xxh64();
    manifest.validation_xxh64 = validation.header_xxh64();
    manifest.train_images = train.count();
    manifest.validation_images = validation.count();
    RETURN_IF_ERROR(WriteFile(output.Path("tokenizer.json"), tokenizer_json));
    RETURN_IF_ERROR(WriteFile(output.Path("tokenizer_config.json"), config_json));
    RETURN_IF_ERROR(WriteFile(output.Path("dataset.json"), manifest.ToJson()));
    return output.Publish();
  }

  absl::Status Add(const ImageItem& item, Tokenizer::Encoder* encoder, ImageFileWriter* file) {
    absl::StatusOr<Image> loaded = item.load();
    if (absl::IsInvalidArgument(loaded.status()) || absl::IsNotFound(loaded.status())) return Damaged(loaded.status());
    RETURN_IF_ERROR(loaded.status());
    StoredImage stored = {.image = FitTo(WithChannels(OverWhite(*loaded), options_.channels), options_.width,
                                         options_.height, options_.fit),
                          .labels = item.labels,
                          .captions = std::vector<std::vector<StoredCaption>>(item.captions.size())};
    if (options_.edges) stored.image = EdgeMap(stored.image);
    int64_t& longest = report_.manifest.caption_tokens_max;
    for (size_t language = 0; language < item.captions.size(); ++language) {
      for (const std::string& caption : item.captions[language]) {
        StoredCaption& added = stored.captions[language].emplace_back();
        added.text = caption;
        encoder->Encode(caption, &added.tokens);
        longest = std::max(longest, static_cast<int64_t>(added.tokens.size()));
        ++report_.captions[language];
      }
    }
    return file->Append(stored);
  }

  absl::Status Damaged(const absl::Status& why) {
    const int64_t count = ++report_.manifest.skipped;
    if (report_.damaged.size() < kNamedMax) report_.damaged.emplace_back(why.message());
    if (count <= options_.damaged_max) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(report_.damaged.back(), "; data.prepare.images.damaged_max allows ",
                                                   options_.damaged_max, " such images, this is number ", count));
  }

  const ImageListing& listing_;
  const PrepareImagesOptions& options_;
  std::vector<const ImageItem*> training_, validation_;
  std::unique_ptr<Tokenizer> tokenizer_;
  PrepareImagesReport report_;
};

}  // namespace

std::string PrepareImagesReport::ToString() const {
  const ImageFileShape& shape = manifest.shape;
  std::string text = absl::StrFormat("dataset %s: %d images for training, %d for validation, %d x %d, %d channel%s\n",
                                     output, manifest.train_images, manifest.validation_images, shape.width,
                                     shape.height, shape.channels, shape.channels == 1 ? "" : "s");
  for (size_t i = 0; i < captions.size(); ++i) {
    absl::StrAppendFormat(&text, "  %s: %d captions\n", manifest.languages[i], captions[i]);
  }
  absl::StrAppendFormat(&text, "  styles: %s\n", absl::StrJoin(manifest.styles, ", "));
  if (!manifest.classes.empty()) {
    absl::StrAppendFormat(&text, "  %d classes: %s\n", shape.classes, absl::StrJoin(manifest.classes, ", "));
  }
  absl::StrAppendFormat(&text, "  vocabulary %d, longest caption %d tokens\n", shape.vocabulary_size,
                        manifest.caption_tokens_max);
  if (shape.vocabulary_size < vocabulary_asked) {
    absl::StrAppendFormat(&text,
                          "the captions support a vocabulary of %d tokens, less than data.prepare.vocabulary_size = "
                          "%d\n",
                          shape.vocabulary_size, vocabulary_asked);
  }
  if (!note.empty()) absl::StrAppend(&text, note, "\n");
  if (manifest.skipped > 0) {
    absl::StrAppendFormat(&text, "%d damaged images were left out:\n", manifest.skipped);
    for (const std::string& why : damaged) absl::StrAppend(&text, "  ", why, "\n");
  }
  absl::StrAppend(&text, "prepared in ", FormatSeconds(seconds), "\n");
  return text;
}

absl::StatusOr<PrepareImagesReport> PrepareImages(const ImageListing& listing, const PrepareImagesOptions& options) {
  return ImagePreparation(listing, options).Run();
}

}  // namespace angel_ptm
