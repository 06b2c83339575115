// A small set of images for tests that train diffusion transformers.
#ifndef ANGEL_PTM_TESTS_SUPPORT_TINY_IMAGES_H_
#define ANGEL_PTM_TESTS_SUPPORT_TINY_IMAGES_H_

#include <string>
#include <vector>

#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

// 8 x 8 grey pixels, each image a class of its own: bright in a quarter or a half of the image, dark elsewhere.
struct TinyImage {
  const char* name;     // of the class, and the caption in English
  const char* chinese;  // the caption in Chinese
  Image image;
};
const std::vector<TinyImage>& TinyImages();

// Prepares them as a dataset in <folder>/images and returns that path; the validation split has the first four. The
// tokenizer has kTinyVocabulary tokens. CHECK-fails if it cannot.
std::string PrepareTinyImages(const std::string& folder);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_TINY_IMAGES_H_
