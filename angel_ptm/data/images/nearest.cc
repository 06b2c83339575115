#include "angel_ptm/data/images/nearest.h"

#include <algorithm>
#include <limits>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

absl::StatusOr<NearestImages> NearestImages::Read(const ImageFile& file) {
  const ImageFileShape& shape = file.shape();
  NearestImages nearest;
  nearest.count_ = file.count();
  nearest.values_ = static_cast<size_t>(shape.pixel_bytes());
  nearest.planes_.resize(nearest.values_ * static_cast<size_t>(file.count()));
  for (int64_t i = 0; i < file.count(); ++i) {
    const std::span<float> planes =
        std::span(nearest.planes_).subspan(static_cast<size_t>(i) * nearest.values_, nearest.values_);
    RETURN_IF_ERROR(file.ReadPlanes(i, {.height = shape.height, .width = shape.width}, planes));
    for (int32_t language = 0; language < shape.languages; ++language) {
      ASSIGN_OR_RETURN(const int32_t captions, file.CaptionCount(i, language));
      for (int32_t which = 0; which < captions; ++which) {
        ASSIGN_OR_RETURN(const std::string caption, file.ReadCaption({i, language, which}));
        const auto [entry, is_new] = nearest.captions_.try_emplace(caption);
        if (is_new) entry->second.language = language;
        std::vector<int64_t>& images = entry->second.images;
        if (images.empty() || images.back() != i) images.push_back(i);
      }
    }
  }
  return nearest;
}

const NearestImages::Asked* NearestImages::Find(const std::string& caption) const {
  const auto found = captions_.find(caption);
  return found == captions_.end() ? nullptr : &found->second;
}

std::span<const float> NearestImages::image(int64_t i) const {
  APTM_CHECK(i >= 0 && i < count_, i, " of ", count_);
  return std::span(planes_).subspan(static_cast<size_t>(i) * values_, values_);
}

double NearestImages::Distance(std::span<const float> a, std::span<const float> b) const {
  APTM_CHECK(a.size() == values_ && b.size() == values_, a.size(), " and ", b.size(), " for ", values_);
  double sum = 0;
  for (size_t i = 0; i < values_; ++i) {
    const double difference = double{a[i]} - double{b[i]};
    sum += difference * difference;
  }
  return sum / static_cast<double>(values_);
}

int64_t NearestImages::NearerImages(std::span<const float> sample, const Asked& asked) const {
  std::vector<double> distances;
  for (int64_t i = 0; i < count_; ++i) distances.push_back(Distance(sample, image(i)));
  double least = std::numeric_limits<double>::infinity();
  for (const int64_t i : asked.images) least = std::min(least, distances[static_cast<size_t>(i)]);
  // Bit-identical images are at equal distances.
  std::sort(distances.begin(), distances.end());
  const auto end = std::unique(distances.begin(), distances.end());
  return std::lower_bound(distances.begin(), end, least) - distances.begin();
}

double NearestImages::ChanceDistance() const {
  if (count_ < 2) return 0;
  double sum = 0;
  for (int64_t i = 0; i < count_; ++i) sum += Distance(image(i), image((i + count_ / 2 + count_ % 2) % count_));
  return sum / static_cast<double>(count_);
}

}  // namespace angel_ptm
