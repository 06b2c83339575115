#include "angel_ptm/train/numerics.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/config/validate.h"
#include "kernels/cpu/matrix_library.h"

namespace angel_ptm {
namespace {

constexpr std::array<std::string_view, 6> kNamesInText = {"backend",     "world size", "threads",
                                                          "micro-batch", "head chunk", "expert block"};

constexpr const char *kOrderedSums = "in rank order", *kOneNode = "all";

}  // namespace

Numerics NumericsOf(const TrainConfig& config, WorldShape world, int threads, const char* backend,
                    const BuildFacts& build) {
  return {{"backend", backend},
          {"compute", Name(ComputeType(config))},
          {"gradients", Name(GradientType(config))},
          {"world size", absl::StrCat(world.size)},
          {"ranks of a node", world.has_nodes() ? absl::StrCat(world.ranks_per_node) : kOneNode},
          {"expert degree", absl::StrCat(config.sharding().expert_degree())},
          {"threads", absl::StrCat(threads)},
          {"micro-batch", absl::StrCat(config.batch().micro_batch_sequences(), " of ",
                                       config.batch().global_batch_sequences(), " x ", SequenceTokens(config))},
          {"head chunk", absl::StrCat(config.numerics().lm_head_chunk_tokens())},
          {"expert block", absl::StrCat(config.numerics().expert_block_rows())},
          {"sums", config.numerics().sums() == NumericsConfig::NCCL_SUMS ? "NCCL's" : kOrderedSums},
          {"build", build.commit},
          {"kernels for", build.processor},
          {"matrix library", MatrixLibrary()}};
}

void AddWhatWasNotRecorded(Numerics& numerics) {
  const char* const fp32 = Name(DType::kFloat32);
  const std::array<std::pair<const char*, const char*>, 5> once = {{{"compute", fp32},
                                                                    {"gradients", fp32},
                                                                    {"sums", kOrderedSums},
                                                                    {"ranks of a node", kOneNode},
                                                                    {"expert degree", "1"}}};
  for (const auto& [name, value] : once) {
    const auto is_it = [name = name](const auto& field) { return field.first == name; };
    if (std::ranges::none_of(numerics, is_it)) numerics.emplace_back(name, value);
  }
}

Numerics NumericsFromText(const std::string& text) {
  Numerics numerics;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ", "))) {
    for (const std::string_view name : kNamesInText) {
      if (!part.starts_with(std::string(name) + " ")) continue;
      numerics.emplace_back(name, part.substr(name.size() + 1));
    }
  }
  AddWhatWasNotRecorded(numerics);
  return numerics;
}

NumericsDifference Compare(const Numerics& saved, const Numerics& now) {
  NumericsDifference difference;
  for (const auto& [name, value] : now) {
    const auto it = std::find_if(saved.begin(), saved.end(), [&](const auto& field) { return field.first == name; });
    if (it == saved.end()) {
      difference.unrecorded.push_back(name);
    } else if (it->second != value) {
      difference.changed.push_back(absl::StrCat(name, " ", it->second, " -> ", value));
    }
  }
  return difference;
}

}  // namespace angel_ptm
