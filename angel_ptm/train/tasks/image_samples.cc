#include "angel_ptm/train/tasks/image_samples.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/data/images/contact_sheet.h"

namespace angel_ptm {
namespace {

std::string NameOfImage(int64_t number) { return absl::StrFormat("%04d.png", number); }

// The images from number `count` on that an earlier call's samples.jsonl names.
std::vector<std::string> LeftFromEarlier(const std::string& folder, int64_t count) {
  std::vector<std::string> names;
  const absl::StatusOr<std::string> lines = ReadFile(folder + "/samples.jsonl");
  if (!lines.ok()) return names;
  for (const absl::string_view line : absl::StrSplit(*lines, '\n', absl::SkipEmpty())) {
    const nlohmann::json sample = ParseJson({line.data(), line.size()});
    if (!sample.is_object() || !sample.contains("image") || !sample["image"].is_string()) continue;
    const std::string name = sample["image"];
    int64_t number = 0;
    if (!absl::SimpleAtoi(name.substr(0, name.find('.')), &number) || name != NameOfImage(number)) continue;
    if (number >= count) names.push_back(name);
  }
  return names;
}

}  // namespace

absl::StatusOr<std::string> WriteImages(const std::string& folder, const SamplingFacts& facts,
                                        std::vector<GeneratedImage> images) {
  RETURN_IF_ERROR(MakeDirectories(folder));
  const std::vector<std::string> left = LeftFromEarlier(folder, static_cast<int64_t>(images.size()));
  std::vector<SheetCell> cells;
  std::string lines;
  for (size_t i = 0; i < images.size(); ++i) {
    const std::string name = NameOfImage(static_cast<int64_t>(i));
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
  if (left.empty()) return sheet.note;
  for (const std::string& name : left) RETURN_IF_ERROR(RemoveFile(absl::StrCat(folder, "/", name)));
  return absl::StrCat(sheet.note, sheet.note.empty() ? "" : "; ", "removed ",
                      Counted(static_cast<int64_t>(left.size()), "image"), " of an earlier call from ", folder);
}

absl::Status WriteSampledLatents(const std::string& path, const PatchGrid& grid, const std::vector<int64_t>& prompts,
                                 int64_t samples_per_prompt, std::span<const float> latents,
                                 const SamplingFacts& facts) {
  std::vector<int32_t> numbers;
  for (const int64_t prompt : prompts) {
    numbers.insert(numbers.end(), static_cast<size_t>(samples_per_prompt), static_cast<int32_t>(prompt));
  }
  SafetensorsMetadata metadata = {{"step", absl::StrCat(facts.step)},
                                  {"weights", facts.weights},
                                  {"sampler", facts.sampler},
                                  {"steps", absl::StrCat(facts.steps)},
                                  {"guidance", absl::StrCat(facts.guidance)},
                                  {"seed", absl::StrCat(facts.seed)}};
  if (facts.control_scale) metadata["control_scale"] = absl::StrCat(*facts.control_scale);
  if (!facts.prompts.empty()) metadata["prompts"] = nlohmann::json(facts.prompts).dump();
  const auto count = static_cast<int64_t>(numbers.size());
  const std::vector<SafetensorsTensor> tensors = {
      {"latents", DType::kFloat32, {count, grid.channels, grid.height, grid.width}},
      {"samples", DType::kInt32, {count}}};
  return WriteSafetensors(path, tensors, metadata, [&](SafetensorsWriter& writer) -> absl::Status {
    RETURN_IF_ERROR(writer.Append(std::as_bytes(latents.first(static_cast<size_t>(count * grid.elements())))));
    return writer.Append(std::as_bytes(std::span(numbers)));
  });
}

SamplingFacts FactsFrom(const SafetensorsMetadata& metadata) {
  const auto text = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string() : found->second;
  };
  SamplingFacts facts{.weights = text("weights"), .sampler = text("sampler")};
  (void)absl::SimpleAtoi(text("step"), &facts.step);
  (void)absl::SimpleAtoi(text("steps"), &facts.steps);
  (void)absl::SimpleAtod(text("guidance"), &facts.guidance);
  (void)absl::SimpleAtoi(text("seed"), &facts.seed);
  const nlohmann::json prompts = ParseJson(text("prompts"));
  if (!prompts.is_array()) return facts;
  for (const nlohmann::json& prompt : prompts) facts.prompts.push_back(prompt.is_string() ? prompt : "");
  return facts;
}

}  // namespace angel_ptm
