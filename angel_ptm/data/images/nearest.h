// An objective measure of samples: whether the image nearest to a sample, among those of a set, is the one that was
// asked for.
#ifndef ANGEL_PTM_DATA_IMAGES_NEAREST_H_
#define ANGEL_PTM_DATA_IMAGES_NEAREST_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/data/images/image_file.h"

namespace angel_ptm {

// All images of a file in memory, 4 bytes per value, and all captions.
class NearestImages {
 public:
  static absl::StatusOr<NearestImages> Read(const ImageFile& file);

  struct Asked {
    std::vector<int64_t> images;  // those with the caption; several if there are drawing styles
    int32_t language = 0;         // the first language with this caption
  };
  // Returns null if no image has that caption.
  const Asked* Find(const std::string& caption) const;

  // Mean squared difference of two images, given as planes [C, H, W] of values in -1..1.
  double Distance(std::span<const float> a, std::span<const float> b) const;
  std::span<const float> image(int64_t i) const;

  // How many images are nearer to the sample than the nearest of those asked for. 0 counts as top 1, below 5 as top 5.
  // Equal images count as one.
  int64_t NearerImages(std::span<const float> sample, const Asked& asked) const;
  // The mean distance between different images, pairing each with the one half the file away: what chance would give.
  double ChanceDistance() const;

  int64_t count() const { return count_; }

 private:
  int64_t count_ = 0;
  size_t values_ = 0;  // per image
  std::vector<float> planes_;
  std::map<std::string, Asked> captions_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_NEAREST_H_
