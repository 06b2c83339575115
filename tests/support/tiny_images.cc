#include "tests/support/tiny_images.h"

#include <cstdint>

#include "angel_ptm/base/checksum.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/tokenizer.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr int32_t kSide = 8;

// An image that is bright in each quarter (top left, top right, bottom left, bottom right) whose bit in `quarters` is
// set.
Image Quarters(int quarters) {
  Image image = MakeImage(kSide, kSide, 1);
  for (int32_t y = 0; y < kSide; ++y) {
    for (int32_t x = 0; x < kSide; ++x) {
      const int quarter = 2 * (y / (kSide / 2)) + x / (kSide / 2);
      *image.at(x, y) = (quarters >> quarter & 1) != 0 ? 230 : 30;
    }
  }
  return image;
}

// Writes the first `count` images and returns the file's identity.
uint64_t Write(const std::string& path, const ImageFileShape& shape, size_t count, const Tokenizer& tokenizer) {
  ImageFileWriter writer = OrDie(ImageFileWriter::Create(path, shape));
  for (size_t i = 0; i < count; ++i) {
    const TinyImage& tiny = TinyImages()[i];
    OrDie(writer.Append(
        {.image = tiny.image,
         .labels = {.class_id = static_cast<int32_t>(i)},
         .captions = {{{tiny.name, tokenizer.Encode(tiny.name)}}, {{tiny.chinese, tokenizer.Encode(tiny.chinese)}}}}));
  }
  OrDie(writer.Finish());
  OrDie(writer.Commit());
  return writer.header_xxh64();
}

}  // namespace

const std::vector<TinyImage>& TinyImages() {
  static const auto* const images = new std::vector<TinyImage>{
      {"top left", "左上", Quarters(1)}, {"top right", "右上", Quarters(2)}, {"bottom left", "左下", Quarters(4)},
      {"bottom", "下", Quarters(12)},    {"top", "上", Quarters(3)},         {"left", "左", Quarters(5)}};
  return *images;
}

std::string PrepareTinyImages(const std::string& folder) {
  const std::string text = PrepareTinyText(folder), images = folder + "/images";
  const std::string json = Slurp(text + "/tokenizer.json"), config = Slurp(text + "/tokenizer_config.json");
  Spill(images + "/tokenizer.json", json);
  Spill(images + "/tokenizer_config.json", config);
  const auto tokenizer = OrDie(Tokenizer::FromJson(json, "tokenizer.json"));
  ImageManifest manifest{.shape = {.channels = 1,
                                   .height = kSide,
                                   .width = kSide,
                                   .languages = 2,
                                   .vocabulary_size = static_cast<int32_t>(tokenizer->vocabulary_size()),
                                   .classes = static_cast<int32_t>(TinyImages().size()),
                                   .styles = 1,
                                   .tokenizer_xxh64 = Xxh64(json)},
                         .tokenizer_config_xxh64 = Xxh64(config),
                         .train_images = static_cast<int64_t>(TinyImages().size()),
                         .validation_images = 4,
                         .caption_tokens_max = 16,
                         .languages = {"en", "zh"},
                         .styles = {"plain"}};
  for (const TinyImage& image : TinyImages()) manifest.classes.emplace_back(image.name);
  manifest.train_xxh64 = Write(images + "/train.images", manifest.shape, TinyImages().size(), *tokenizer);
  manifest.validation_xxh64 = Write(images + "/validation.images", manifest.shape, 4, *tokenizer);
  Spill(images + "/dataset.json", manifest.ToJson());
  return images;
}

}  // namespace angel_ptm
