#include "angel_ptm/train/tasks/denoisers.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/config/compare.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

// The files with which prompts are read.
constexpr std::array<const char*, 2> kOfPrompts = {"tokenizer.json", "images.json"};

absl::StatusOr<std::string> CopiedFile(const CheckpointReader& checkpoint, const std::string& name) {
  const auto& files = checkpoint.manifest().copied_files;
  const bool has = std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.name == name; });
  return has ? checkpoint.ReadCopiedFile(name) : std::string();
}

absl::Status CheckSameModel(const CheckpointReader& checkpoint, const TrainConfig& config,
                            const CheckpointReader& expert) {
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig other, StoredConfig(expert, &note));
  const ChangeableFields fields = MakeTask(config, /*vocab_size=*/1)->changeable_fields();
  std::vector<std::string_view> may_differ(fields.without_effect.begin(), fields.without_effect.end());
  may_differ.insert(may_differ.end(), fields.of_the_curve.begin(), fields.of_the_curve.end());
  std::vector<std::string> differences = ModelDifferences(config, other, may_differ);
  for (const char* name : kOfPrompts) {
    ASSIGN_OR_RETURN(const std::string own, CopiedFile(checkpoint, name));
    ASSIGN_OR_RETURN(const std::string theirs, CopiedFile(expert, name));
    if (own != theirs) differences.push_back(absl::StrCat("another ", name));
  }
  if (differences.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--expert: ", expert.path(), " is another model than ",
                                                 checkpoint.path(), ": ", absl::StrJoin(differences, "; ")));
}

absl::Status CheckTimes(std::vector<Expert> experts) {
  std::ranges::sort(experts, {}, &Expert::from);
  for (size_t i = 1; i < experts.size(); ++i) {
    if (experts[i].from >= experts[i - 1].to) continue;
    return absl::InvalidArgumentError(absl::StrCat("--expert: wanted times that do not overlap, got ",
                                                   experts[i - 1].from, "-", experts[i - 1].to, " and ",
                                                   experts[i].from, "-", experts[i].to));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Expert> ParseExpert(const std::string& text, const std::string& flag) {
  const size_t colon = text.rfind(':'), dash = text.find('-', colon == std::string::npos ? text.size() : colon);
  Expert expert;
  if (colon != std::string::npos && colon > 0 && dash != std::string::npos &&
      absl::SimpleAtod(text.substr(colon + 1, dash - colon - 1), &expert.from) &&
      absl::SimpleAtod(text.substr(dash + 1), &expert.to) && expert.from >= 0 && expert.from < expert.to &&
      expert.to <= static_cast<double>(kDiffusionSteps)) {
    expert.checkpoint = text.substr(0, colon);
    return expert;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": wanted DIR:FROM-TO with 0 <= FROM < TO <= ", kDiffusionSteps, ", got ", text));
}

absl::StatusOr<Denoisers> Denoisers::Load(CheckpointReader& checkpoint, const TrainConfig& config,
                                          const std::vector<Expert>& experts, const std::function<Graph()>& build,
                                          const InferenceOptions& options, const std::string& what) {
  RETURN_IF_ERROR(CheckTimes(experts));
  Denoisers denoisers;
  InferenceOptions left = options;
  const auto load = [&](CheckpointReader& from) -> absl::Status {
    ASSIGN_OR_RETURN(auto model, Inference::Create(build(), from, left, what));
    if (options.memory_bytes_max > 0) {
      left.memory_bytes_max = std::max<int64_t>(1, left.memory_bytes_max - model->memory_bytes());
    }
    denoisers.models_.push_back(std::move(model));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(load(checkpoint));
  for (const Expert& expert : experts) {
    ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(expert.checkpoint));
    RETURN_IF_ERROR(CheckSameModel(checkpoint, config, reader));
    RETURN_IF_ERROR(load(reader));
  }
  denoisers.experts_ = experts;
  return denoisers;
}

std::vector<Denoiser> Denoisers::all() const {
  std::vector<Denoiser> all;
  for (size_t i = 0; i < models_.size(); ++i) {
    all.push_back({.graph = &models_[i]->graph(), .executor = &models_[i]->executor()});
    if (i == 0) continue;
    const auto [from, to] = std::pair(experts_[i - 1].from, experts_[i - 1].to);
    all.back().from = from;
    // Flows begin at the end of the range, which `to` excludes.
    all.back().to = to == static_cast<double>(kDiffusionSteps) ? to + 1 : to;
  }
  return all;
}

}  // namespace angel_ptm
