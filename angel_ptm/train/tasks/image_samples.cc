#include "angel_ptm/train/tasks/image_samples.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/contact_sheet.h"

namespace angel_ptm {

absl::StatusOr<std::string> WriteImages(const std::string& folder, const SamplingFacts& facts,
                                        std::vector<GeneratedImage> images) {
  RETURN_IF_ERROR(MakeDirectories(folder));
  std::vector<SheetCell> cells;
  std::string lines;
  for (size_t i = 0; i < images.size(); ++i) {
    const std::string name = absl::StrFormat("%04d.png", i);
    RETURN_IF_ERROR(WritePng(absl::StrCat(folder, "/", name), images[i].image));
    const nlohmann::ordered_json sample = {{"image", name},
                                           {"prompt", images[i].prompt},
                                           {"step", facts.step},
                                           {"weights", facts.weights},
                                           {"guidance", facts.guidance},
                                           {"sampler", facts.sampler},
                                           {"steps", facts.steps},
                                           {"seed", images[i].seed.value_or(facts.seed)}};
    absl::StrAppend(&lines, sample.dump(), "\n");
    cells.push_back({std::move(images[i].image), std::move(images[i].prompt)});
  }
  ASSIGN_OR_RETURN(const ContactSheet sheet, MakeContactSheet(cells, {}));
  RETURN_IF_ERROR(WritePng(folder + "/sheet.png", sheet.image));
  RETURN_IF_ERROR(WriteFile(folder + "/samples.jsonl", lines));
  return sheet.note;
}

}  // namespace angel_ptm
