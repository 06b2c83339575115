// What a source of images offers, before any image is decoded.
#ifndef ANGEL_PTM_DATA_IMAGES_IMAGE_LISTING_H_
#define ANGEL_PTM_DATA_IMAGES_IMAGE_LISTING_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/data/images/image_file.h"

namespace angel_ptm {

enum class ImageSplit { kAny, kTraining, kValidation };

struct ImageItem {
  std::string name;                                // a path, for people
  std::vector<std::vector<std::string>> captions;  // by language; valid UTF-8, none empty, one or more in total
  ImageLabels labels;
  ImageSplit split = ImageSplit::kAny;  // as the source defines it
  // Returns kInvalidArgument or kNotFound if the image is damaged or missing. Other errors come from the machine.
  std::function<absl::StatusOr<Image>()> load;
};

struct ImageListing {
  std::vector<std::string> languages, styles, classes;
  std::vector<ImageItem> items;  // in an order of the source, the same every time
  std::string note;              // for people: what was left out and why; or empty
};

// Returns the caption without surrounding spaces. Errors name `where`: empty, or not UTF-8.
absl::StatusOr<std::string> CheckedCaption(std::string_view text, const std::string& where);

// The index of `name` in `names`. Appends it if it is new.
int32_t IdOf(const std::string& name, std::vector<std::string>* names);

// Sources. A path that is not given is that of Debian's package.

// Reads folders of PNG, JPEG and tar files in the order of their paths, each folder once whatever links lead to it, and
// WebDataset's tar files. A folder's captions are in its metadata.jsonl, an object per line: "file_name"; captions
// under "text" or "caption" (the first language) or under the name of a language, as a text or a list; optionally
// "class" and "style", as names or numbers. Without that file, they are beside each image in X.txt (the first language)
// or X.<language>.txt, a caption per line. In tar files the same extensions belong to the same key, X.json is such an
// object, and X.cls is the class. The note counts images of other formats, which are left out. Errors: an image without
// caption; captions that are empty or not UTF-8; no images.
absl::StatusOr<ImageListing> ListImageFolders(const std::vector<std::string>& inputs,
                                              const std::vector<std::string>& languages);

// Names and keywords of Unicode's CLDR in English and Chinese, with pictures of a font with colour bitmaps. `inputs`
// are name=path: font=FILE and cldr=FOLDER (the parent of annotations/ and annotationsDerived/) replace those of the
// packages; any other name is a further drawing style, a folder of PNG files named by code points (1f469-1f3fd.png).
// The first caption is the name, the second the name with its keywords.
absl::StatusOr<ImageListing> ListEmoji(const std::vector<std::string>& inputs);

// Tux Paint's stamps, with sentences in English and, if available, Chinese. At most one input: their folder.
absl::StatusOr<ImageListing> ListTuxpaintStamps(const std::vector<std::string>& inputs);

// Fashion-MNIST (Xiao et al. 2017): 28 x 28 grey, ten classes with names in English and Chinese. Its own test images
// are for validation. At most one input: its folder.
absl::StatusOr<ImageListing> ListFashionMnist(const std::vector<std::string>& inputs);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_LISTING_H_
