// What a source of images offers before any is decoded.
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
  std::vector<std::vector<std::string>> captions;  // by language; valid UTF-8, none empty, at least one in all
  ImageLabels labels;
  ImageSplit split = ImageSplit::kAny;  // as the source has it
  // kInvalidArgument, kNotFound: the image is damaged or missing. Other errors are of the machine.
  std::function<absl::StatusOr<Image>()> load;
};

struct ImageListing {
  std::vector<std::string> languages, styles, classes;
  std::vector<ImageItem> items;  // in an order of the source's own, the same every time
  std::string note;              // for people: what was left out and why, or empty
};

// The caption without spaces around it. Errors: empty, or not UTF-8; `where` names the place.
absl::StatusOr<std::string> CheckedCaption(std::string_view text, const std::string& where);

// Number of `name` in `names`, to which it is added if it is new.
int32_t IdOf(const std::string& name, std::vector<std::string>* names);

// Sources. Where a path is left to its default, it is that of Debian's package.

// Folders of PNG, JPEG and tar files, read in order of their paths, each folder once whatever links lead to it, and
// WebDataset's tar files. Captions of a folder stand in its metadata.jsonl, an object a line: "file_name", captions in
// "text" (the first language) or under a language's name, a text or a list, and if wanted "class" and "style", names or
// numbers; without that file beside each image, X.txt (the first language) or X.<language>.txt, a caption a line. In
// tar files the same extensions belong to the same key, X.json is such an object, and X.cls the class. The note counts
// images of other formats, which are left out. Errors: an image without caption, captions that are empty or not UTF-8,
// no images.
absl::StatusOr<ImageListing> ListImageFolders(const std::vector<std::string>& inputs,
                                              const std::vector<std::string>& languages);

// Names and keywords of Unicode's CLDR in English and Chinese, pictures of a font with colour bitmaps. `inputs` are
// name=path: font=FILE and cldr=FOLDER (that of annotations/ and annotationsDerived/) replace the packages' own; any
// other name is another drawing style, a folder of PNG files named by code points (1f469-1f3fd.png). The first caption
// is the name, the second the name with its keywords.
absl::StatusOr<ImageListing> ListEmoji(const std::vector<std::string>& inputs);

// Tux Paint's stamps: sentences in English and, where there is one, Chinese. At most one input, their folder.
absl::StatusOr<ImageListing> ListTuxpaintStamps(const std::vector<std::string>& inputs);

// Fashion-MNIST (Xiao et al. 2017), 28 x 28 grey, ten classes named in English and Chinese; its own test images are for
// validation. At most one input, their folder.
absl::StatusOr<ImageListing> ListFashionMnist(const std::vector<std::string>& inputs);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_IMAGE_LISTING_H_
