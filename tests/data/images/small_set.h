// A small set of random images with captions.
#ifndef ANGEL_PTM_TESTS_DATA_IMAGES_SMALL_SET_H_
#define ANGEL_PTM_TESTS_DATA_IMAGES_SMALL_SET_H_

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/data/images/image_file.h"
#include "tests/support/or_die.h"

namespace angel_ptm {

inline constexpr ImageFileShape kSmallShape = {.channels = 3,
                                               .height = 5,
                                               .width = 7,
                                               .languages = 2,
                                               .vocabulary_size = 300,
                                               .classes = 4,
                                               .styles = 2,
                                               .tokenizer_xxh64 = 0x77};

// Image i has 1 + i % 3 captions in the first language and one, or for every fifth image none, in the second.
inline std::vector<StoredImage> SmallSet(int count, const ImageFileShape& shape = kSmallShape) {
  std::mt19937 random(3);
  std::vector<StoredImage> set;
  for (int i = 0; i < count; ++i) {
    StoredImage image = {.image = MakeImage(shape.width, shape.height, shape.channels),
                         .labels = {.class_id = i % 5 - 1, .style_id = i % 2},
                         .captions = std::vector<std::vector<StoredCaption>>(2)};
    for (uint8_t& pixel : image.image.pixels) pixel = static_cast<uint8_t>(random());
    for (int language = 0; language < 2; ++language) {
      const int captions = language == 0 ? 1 + i % 3 : i % 5 != 0;
      for (int c = 0; c < captions; ++c) {
        StoredCaption caption = {.text = absl::StrCat(language == 0 ? "name " : "名 ", i, " ", c), .tokens = {}};
        for (int t = 0; t < 1 + (i + c) % 4; ++t) caption.tokens.push_back(2 + static_cast<int32_t>(random() % 298));
        image.captions[static_cast<size_t>(language)].push_back(std::move(caption));
      }
    }
    set.push_back(std::move(image));
  }
  return set;
}

inline void WriteSet(const std::string& path, const std::vector<StoredImage>& set,
                     const ImageFileShape& shape = kSmallShape) {
  ImageFileWriter writer = OrDie(ImageFileWriter::Create(path, shape));
  for (const StoredImage& image : set) OrDie(writer.Append(image));
  OrDie(writer.Finish());
  OrDie(writer.Commit());
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_DATA_IMAGES_SMALL_SET_H_
