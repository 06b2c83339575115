// Checks data.prepare{}: its values, and that none of them is for another kind of data.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/config/checks.h"
#include "angel_ptm/config/compare.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {

void CheckPrepare(const PrepareConfig& prepare, Checks* checks) {
  checks->Between("data.prepare.vocabulary_size", prepare.vocabulary_size(), kVocabularyMin, kVocabularyMax);
  const double fraction = prepare.validation_fraction();
  checks->That(fraction >= 0 && fraction <= 0.5, "data.prepare.validation_fraction", "out of range", "0 to 0.5",
               Text(fraction));
  const PrepareImagesConfig& images = prepare.images();
  const std::string field = "data.prepare.images.";
  constexpr int64_t kSideMax = 16384;
  checks->Between(field + "height", images.height(), 1, kSideMax);
  checks->Between(field + "width", images.width(), 1, kSideMax);
  checks->That(images.channels() == 1 || images.channels() == 3, field + "channels", "neither grey nor colour",
               "1 or 3", Text(images.channels()));
  checks->That(images.language_size() <= 16, field + "language", "too many", "at most 16",
               Text(int64_t{images.language_size()}));
  for (int i = 0; i < images.language_size(); ++i) {
    checks->Set(absl::StrCat(field, "language[", i, "]"), images.language(i));
  }
  checks->Between(field + "images_max", images.images_max(), 0, kStepsMax);
  checks->Between(field + "damaged_max", images.damaged_max(), 0, kStepsMax);
}

namespace {

// Without a source, settings of images would have no effect.
void CheckNoImages(const TrainConfig& config, Checks* checks) {
  TrainConfig text = config;
  text.mutable_data()->mutable_prepare()->clear_images();
  FillDefaults(&text);
  for (const FieldDifference& field : ConfigDifferences(text, config)) {
    checks->That(false, field.path, "is for images, and text is prepared",
                 "data.prepare.images.source FOLDER or another, or it unset", field.after);
  }
}

}  // namespace

absl::Status ValidatePrepare(const TrainConfig& config) {
  Checks checks("");
  checks.Set("data.directory", config.data().directory());
  const PrepareImagesConfig::Source source = config.data().prepare().images().source();
  const bool needs_input = source == PrepareImagesConfig::NONE || source == PrepareImagesConfig::FOLDER;
  checks.That(!needs_input || config.data().prepare().input_size() > 0, "data.prepare.input", "not set",
              "at least one file or folder", "none");
  for (int i = 0; i < config.data().prepare().input_size(); ++i) {
    checks.Set(absl::StrCat("data.prepare.input[", i, "]"), config.data().prepare().input(i));
  }
  checks.That(source == PrepareImagesConfig::NONE || config.data().prepare().tokenizer().empty(),
              "data.prepare.tokenizer", "is for text", "it unset, as captions get a tokenizer of their own",
              config.data().prepare().tokenizer());
  CheckPrepare(config.data().prepare(), &checks);
  if (source == PrepareImagesConfig::NONE) CheckNoImages(config, &checks);
  if (source != PrepareImagesConfig::NONE && source != PrepareImagesConfig::FOLDER) {
    checks.That(config.data().prepare().images().language_size() == 0, "data.prepare.images.language",
                "is for FOLDER, other sources have languages of their own", "it unset, or source FOLDER",
                absl::StrJoin(config.data().prepare().images().language(), ", "));
  }
  return checks.ToStatus();
}

}  // namespace angel_ptm
