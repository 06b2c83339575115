// Are samples what was asked for? For each the nearest images of the prepared set, by pixels.
//
//   sample_score DATA SAMPLES.jsonl
//   sample_score DATA                  prints what to ask for: the first caption of every training image, by language
//
// DATA is a prepared image set. A line of the other file is {"image": "0.png", "prompt": "grinning face"}: a PNG beside
// it of the set's size, and one of the set's captions. Prints, by language, the share of samples whose asked image is
// the nearest (top 1) or among the five nearest (top 5) of the training images; then how far apart the samples are that
// were asked for the same image in two languages, as a share of the distance of two different images of the set.
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/images/nearest.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

struct Score {
  int64_t samples = 0, top1 = 0, top5 = 0;
};

struct Sample {
  const NearestImages::Asked* asked = nullptr;
  std::vector<float> planes;
};

absl::StatusOr<std::vector<float>> ReadSample(const std::string& path, const ImageFileShape& shape) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(const Image image, DecodeImage(bytes, path));
  if (image.width != shape.width || image.height != shape.height || image.channels != shape.channels) {
    return absl::InvalidArgumentError(absl::StrCat(path, " should be like the set's images, ", shape.width, " x ",
                                                   shape.height, " x ", shape.channels, ", got ", image.width, " x ",
                                                   image.height, " x ", image.channels));
  }
  std::vector<float> planes(image.pixels.size());
  const size_t channels = static_cast<size_t>(image.channels), area = planes.size() / channels;
  for (size_t i = 0; i < planes.size(); ++i) planes[i % channels * area + i / channels] = LevelOfPixel(image.pixels[i]);
  return planes;
}

absl::StatusOr<std::vector<Sample>> ReadSamples(const std::string& path, const NearestImages& set,
                                                const ImageFileShape& shape) {
  using Json = nlohmann::json;
  ASSIGN_OR_RETURN(const std::string lines, ReadFile(path));
  std::vector<Sample> samples;
  int64_t number = 0;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    const std::string line = lines.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    const Json json = ParseJson(line);
    const auto is_text = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_string();
    };
    if (!is_text("image") || !is_text("prompt")) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " line ", number, ": wanted {\"image\": FILE, \"prompt\": TEXT}, got ", line.substr(0, 80)));
    }
    Sample sample = {.asked = set.Find(json["prompt"].get<std::string>()), .planes = {}};
    if (sample.asked == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " line ", number, ": no image of the set is called ", json["prompt"].get<std::string>()));
    }
    ASSIGN_OR_RETURN(sample.planes,
                     ReadSample(absl::StrCat(ParentDirectory(path), "/", json["image"].get<std::string>()), shape));
    samples.push_back(std::move(sample));
  }
  if (samples.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no samples"));
  return samples;
}

absl::Status PrintPrompts(const std::string& folder) {
  ASSIGN_OR_RETURN(const ImageDataset dataset, OpenImageDataset(folder));
  const auto languages = static_cast<int32_t>(dataset.manifest.languages.size());
  for (int32_t language = 0; language < languages; ++language) {
    for (int64_t image = 0; image < dataset.train->count(); ++image) {
      ASSIGN_OR_RETURN(const int32_t count, dataset.train->CaptionCount(image, language));
      if (count == 0) continue;
      ASSIGN_OR_RETURN(const std::string caption, dataset.train->ReadCaption({.image = image, .language = language}));
      std::printf("%s\n", caption.c_str());
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& folder, const std::string& path) {
  ASSIGN_OR_RETURN(const ImageDataset dataset, OpenImageDataset(folder));
  ASSIGN_OR_RETURN(const NearestImages set, NearestImages::Read(*dataset.train));
  ASSIGN_OR_RETURN(const std::vector<Sample> samples, ReadSamples(path, set, dataset.manifest.shape));
  std::map<int32_t, Score> scores;
  std::map<int64_t, std::vector<const Sample*>> by_image;
  for (const Sample& sample : samples) {
    const int64_t nearer = set.NearerImages(sample.planes, *sample.asked);
    Score& score = scores[sample.asked->language];
    ++score.samples;
    score.top1 += nearer < 1;
    score.top5 += nearer < 5;
    by_image[sample.asked->images[0]].push_back(&sample);
  }
  std::printf("%lld images in the set; chance gives top 1 %.2f %%, top 5 %.2f %%\n",
              static_cast<long long>(set.count()), 100.0 / static_cast<double>(set.count()),
              500.0 / static_cast<double>(set.count()));
  for (const auto& [language, score] : scores) {
    const double all = static_cast<double>(score.samples) / 100;
    std::printf("%-4s %6lld samples  top 1 %5.1f %%  top 5 %5.1f %%\n",
                dataset.manifest.languages[static_cast<size_t>(language)].c_str(),
                static_cast<long long>(score.samples), static_cast<double>(score.top1) / all,
                static_cast<double>(score.top5) / all);
  }
  double apart = 0;
  int64_t pairs = 0;
  for (const auto& [image, asked] : by_image) {
    for (size_t i = 0; i < asked.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (asked[i]->asked->language == asked[j]->asked->language) continue;
        apart += set.Distance(asked[i]->planes, asked[j]->planes);
        ++pairs;
      }
    }
  }
  if (pairs > 0) {
    std::printf(
        "%lld pairs of one image in two languages: mean square distance %.4f, of two different images of the set "
        "%.4f, share %.2f\n",
        static_cast<long long>(pairs), apart / static_cast<double>(pairs), set.ChanceDistance(),
        apart / static_cast<double>(pairs) / set.ChanceDistance());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  const absl::Status status = argc == 3   ? angel_ptm::Run(argv[1], argv[2])
                              : argc == 2 ? angel_ptm::PrintPrompts(argv[1])
                                          : absl::InvalidArgumentError("usage: sample_score DATA [SAMPLES.jsonl]");
  if (!status.ok()) std::fprintf(stderr, "sample_score: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
