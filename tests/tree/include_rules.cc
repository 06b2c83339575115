#include <algorithm>
#include <optional>
#include <regex>
#include <string>
#include <string_view>

#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

struct Layer {
  std::string folder;
  std::vector<std::string> may_include;  // folders or single headers, the layer itself aside
};

// Bottom up. launch, benchmarks and tests may include anything.
const std::vector<Layer>& Layers() {
  static const std::vector<Layer> layers = {
      {"angel_ptm/base", {}},
      {"angel_ptm/config", {"angel_ptm/base"}},
      {"angel_ptm/model", {"angel_ptm/base", "angel_ptm/config"}},
      {"angel_ptm/memory", {"angel_ptm/base"}},
      {"kernels", {"angel_ptm/base"}},
      {"comm", {"angel_ptm/base"}},
      {"optim", {"angel_ptm/base", "angel_ptm/model"}},
      {"angel_ptm/plan", {"angel_ptm/base", "angel_ptm/config", "angel_ptm/model"}},
      {"angel_ptm/exec",
       {"angel_ptm/base", "angel_ptm/model", "angel_ptm/plan", "angel_ptm/memory", "kernels", "comm"}},
      {"angel_ptm/data", {"angel_ptm/base", "angel_ptm/config"}},
      {"angel_ptm/checkpoint",
       {"angel_ptm/base", "angel_ptm/model", "angel_ptm/memory", "comm", "angel_ptm/plan/shard.h"}},
      {"angel_ptm/train",
       {"angel_ptm/base", "angel_ptm/config", "angel_ptm/model", "angel_ptm/memory", "angel_ptm/plan", "angel_ptm/exec",
        "angel_ptm/data", "angel_ptm/checkpoint", "kernels", "comm", "optim"}},
      // The references say what an op means without the kernels' help.
      {"tests/reference", {"angel_ptm/base"}},
  };
  return layers;
}

const Layer* LayerOf(const std::string& path) {
  for (const Layer& layer : Layers()) {
    if (StartsWithFolder(path, layer.folder)) return &layer;
  }
  return nullptr;
}

struct Include {
  std::string header;
  bool quoted = false;
};

// The header named by line `i`; comments hold no includes, but the blanked code has lost the name.
std::optional<Include> IncludeOn(const SourceFile& file, std::size_t i) {
  static const std::regex pattern(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::smatch match;
  if (file.code_lines[i].find('#') == std::string::npos) return std::nullopt;
  if (!std::regex_search(file.lines[i], match, pattern)) return std::nullopt;
  return Include{.header = match[2], .quoted = match[1] == "\""};
}

bool IsOurs(const std::string& header) {
  for (const char* folder : {"angel_ptm", "kernels", "comm", "optim", "launch", "benchmarks", "tests"}) {
    if (StartsWithFolder(header, folder)) return true;
  }
  return false;
}

// Libraries that are used to being quoted.
bool IsQuotedLibrary(const std::string& header) {
  for (const char* library : {"absl", "google", "gmock", "gtest", "nlohmann"}) {
    if (StartsWithFolder(header, library)) return true;
  }
  return false;
}

bool MayInclude(const Layer& layer, const std::string& header) {
  if (StartsWithFolder(header, layer.folder)) return true;
  return std::any_of(layer.may_include.begin(), layer.may_include.end(), [&](const std::string& allowed) {
    return header == allowed || StartsWithFolder(header, allowed);
  });
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "nothing of ours" : text;
}

struct GuardedHeader {
  const char* pattern;  // of the header's name
  const char* word;     // what the including file's path must contain
};

constexpr GuardedHeader kGuardedHeaders[] = {
    {R"(^mpi(-ext)?\.h$)", "mpi"},
    {R"(^(cuda|cublas|cudnn|curand|cusparse|cusolver|nvrtc|nvToolsExt|cooperative_groups|cub/|thrust/|nvtx3/|cuda/).*)",
     "cuda"},
    {R"(^nccl.*\.h$)", "nccl"},
    {R"(^liburing.*\.h$|^linux/io_uring\.h$)", "uring"},
};

}  // namespace

std::vector<Finding> CheckIncludeRules(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    const Layer* layer = LayerOf(file.path);
    for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
      const std::optional<Include> include = IncludeOn(file, i);
      if (!include || IsQuotedLibrary(include->header) || (!include->quoted && !IsOurs(include->header))) continue;
      const int line = static_cast<int>(i) + 1;
      if (!IsOurs(include->header)) {
        findings.push_back({file.path, line, "\"" + include->header + "\" is not a path from the root"});
      } else if (layer != nullptr && !MayInclude(*layer, include->header)) {
        findings.push_back({file.path, line,
                            layer->folder + " may not include " + include->header + " (it may include " +
                                Join(layer->may_include) + ")"});
      }
    }
  }
  return findings;
}

std::vector<Finding> CheckSystemHeaders(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
      const std::optional<Include> include = IncludeOn(file, i);
      if (!include || IsOurs(include->header)) continue;
      for (const GuardedHeader& guarded : kGuardedHeaders) {
        if (!std::regex_search(include->header, std::regex(guarded.pattern))) continue;
        if (file.path.find(guarded.word) != std::string::npos) continue;
        findings.push_back({file.path, static_cast<int>(i) + 1,
                            "<" + include->header + "> belongs in files with '" + guarded.word + "' in their path"});
      }
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
