#include "angel_ptm/data/images/image_loader.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/data/permutation.h"

namespace angel_ptm {
namespace {

// Maps a random word to 0..count-1.
int32_t Choose(uint32_t word, int64_t count) {
  return static_cast<int32_t>(std::min(count - 1, static_cast<int64_t>(ToUniform(word) * static_cast<double>(count))));
}

absl::Status CheckOptions(const ImageFile& file, const ImageLoaderOptions& options) {
  const auto wrong = [&](const char* what, const auto& wanted, const auto& got) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", what, ", wanted ", wanted, ", got ", got));
  };
  if (options.global_batch < 1 || options.micro_batch < 1 || options.evaluation_samples < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the global batch and the micro-batch should be at least 1 image, evaluation samples at least 0; got ",
        options.global_batch, ", ", options.micro_batch, " and ", options.evaluation_samples));
  }
  if (file.count() == 0) return wrong("has no images", "at least 1", 0);
  const ImageFileShape& shape = file.shape();
  if (options.height < 0 || options.height > shape.height || options.width < 0 || options.width > shape.width) {
    return wrong("cannot cut out images of that size", absl::StrCat("at most ", shape.width, " x ", shape.height),
                 absl::StrCat(options.width, " x ", options.height));
  }
  for (const double probability : {options.flip_probability, options.other_captions}) {
    if (!(probability >= 0 && probability <= 1)) return wrong("not a probability", "0 to 1", FormatExact(probability));
  }
  if (options.caption_tokens < 1) return wrong("captions need room", "at least 1 token", options.caption_tokens);
  for (const int32_t language : options.languages) {
    if (language < 0 || language >= shape.languages) {
      return wrong("no such language", absl::StrCat("0 to ", shape.languages - 1), language);
    }
  }
  return absl::OkStatus();
}

// Row `row` of a span of the batch; empty if the span is not filled.
template <typename T>
std::span<T> Row(std::span<T> all, int64_t row, int64_t rows) {
  const size_t size = all.size() / static_cast<size_t>(rows);
  return all.subspan(static_cast<size_t>(row) * size, size);
}

template <typename T>
void Put(std::span<T> all, int64_t row, T value) {
  if (!all.empty()) all[static_cast<size_t>(row)] = value;
}

}  // namespace

ImageLoader::ImageLoader(const ImageFile* file, ImageLoaderOptions options)
    : file_(file), options_(std::move(options)), sample_count_(file->count()) {
  if (options_.evaluation_samples > 0) sample_count_ = std::min(sample_count_, options_.evaluation_samples);
  if (options_.height == 0) options_.height = file->shape().height;
  if (options_.width == 0) options_.width = file->shape().width;
  if (options_.languages.empty()) {
    options_.languages.resize(static_cast<size_t>(file->shape().languages));
    std::iota(options_.languages.begin(), options_.languages.end(), 0);
  }
}

absl::StatusOr<ImageLoader> ImageLoader::Create(const ImageFile* file, const ImageLoaderOptions& options) {
  RETURN_IF_ERROR(CheckOptions(*file, options));
  return ImageLoader(file, options);
}

int64_t ImageLoader::MicroBatchesPerStep(int64_t world) const {
  const int64_t samples = world * options_.micro_batch;
  return (options_.global_batch + samples - 1) / samples;
}

absl::StatusOr<ImageSample> ImageLoader::SampleAt(int64_t sample_index) const {
  APTM_CHECK(sample_index >= 0, sample_index);
  const int64_t images = file_->count();
  const bool training = options_.evaluation_samples == 0;
  if (!training && sample_index >= sample_count_) return ImageSample();
  const uint64_t seed = training ? options_.seed : 0;
  const int64_t epoch = training ? sample_index / images : 0;
  const int32_t spare_height = file_->shape().height - options_.height;
  const int32_t spare_width = file_->shape().width - options_.width;
  ImageSample sample = {.image = Permutation(images, seed, static_cast<uint64_t>(epoch))(sample_index % images),
                        .top = spare_height / 2,
                        .left = spare_width / 2};
  const uint64_t counter = static_cast<uint64_t>(sample_index);
  const auto first = RandomWords(seed, RandomPurpose::kAugmentation, 0, counter);
  const auto second = RandomWords(seed, RandomPurpose::kAugmentation, 1, counter);
  const int64_t languages = static_cast<int64_t>(options_.languages.size());
  int64_t language = sample_index % languages;
  if (training) {
    sample.flipped = ToUniform(first[0]) < options_.flip_probability;
    sample.top = Choose(first[1], spare_height + 1);
    sample.left = Choose(first[2], spare_width + 1);
    language = Choose(first[3], languages);
  }
  for (int64_t tried = 0; tried < languages; ++tried) {
    sample.language = options_.languages[static_cast<size_t>((language + tried) % languages)];
    ASSIGN_OR_RETURN(const int32_t captions, file_->CaptionCount(sample.image, sample.language));
    if (captions == 0) continue;
    sample.which = training && ToUniform(second[0]) < options_.other_captions ? Choose(second[1], captions) : 0;
    return sample;
  }
  sample.which = -1;
  return sample;
}

absl::Status ImageLoader::FillRow(int64_t row, int64_t sample_index, const ImageBatch& batch) const {
  const int64_t rows = options_.micro_batch;
  const std::span<float> planes = Row(batch.images, row, rows);
  const std::span<int32_t> tokens = Row(batch.tokens, row, rows);
  ImageSample sample;
  if (sample_index >= 0) {
    ASSIGN_OR_RETURN(sample, SampleAt(sample_index));
  }
  Put(batch.samples, row, sample.image < 0 ? int64_t{-1} : sample_index);
  Put(batch.numbers, row, sample.image);
  ImageLabels labels;
  int32_t length = 0;
  std::fill(tokens.begin(), tokens.end(), options_.pad);
  if (sample.image < 0) {
    std::fill(planes.begin(), planes.end(), 0.0F);
  } else {
    const ImageCut cut = {sample.top, sample.left, options_.height, options_.width, sample.flipped};
    if (!planes.empty()) RETURN_IF_ERROR(file_->ReadPlanes(sample.image, cut, planes));
    ASSIGN_OR_RETURN(labels, file_->ReadLabels(sample.image));
    if (sample.which >= 0) {
      const CaptionKey key = {sample.image, sample.language, sample.which};
      ASSIGN_OR_RETURN(length, file_->ReadTokens(key, options_.pad, tokens));
    }
  }
  Put(batch.token_counts, row, std::min(length, options_.caption_tokens));
  Put(batch.class_ids, row, labels.class_id);
  Put(batch.style_ids, row, labels.style_id);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ImageLoader::FillMicroBatch(const MicroBatchPosition& position, const ImageBatch& batch) const {
  const int64_t rows = options_.micro_batch;
  const int64_t pixels = int64_t{file_->shape().channels} * options_.height * options_.width;
  APTM_CHECK(batch.images.empty() || static_cast<int64_t>(batch.images.size()) == rows * pixels, batch.images.size());
  APTM_CHECK(batch.tokens.empty() || static_cast<int64_t>(batch.tokens.size()) == rows * options_.caption_tokens,
             batch.tokens.size());
  APTM_CHECK(position.rank >= 0 && position.rank < position.world && position.micro >= 0 && position.first_sample >= 0);
  int64_t weighing = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_step = (position.micro * position.world + position.rank) * rows + row;
    const int64_t index = position.first_sample + in_step;
    const bool weighs = in_step < options_.global_batch && (options_.evaluation_samples == 0 || index < sample_count_);
    RETURN_IF_ERROR(FillRow(row, weighs ? index : -1, batch));
    weighing += weighs;
  }
  return weighing;
}

std::string ImageLoader::Describe() const {
  std::string text =
      absl::StrCat("images ", ChecksumText(file_->header_xxh64()), " cut to ", options_.width, " x ", options_.height,
                   ", flipped ", FormatExact(options_.flip_probability), ", captions of ", options_.caption_tokens,
                   " tokens, others ", FormatExact(options_.other_captions), ", languages");
  for (const int32_t language : options_.languages) absl::StrAppend(&text, " ", language);
  return absl::StrCat(text, ", seed ", options_.seed);
}

}  // namespace angel_ptm
