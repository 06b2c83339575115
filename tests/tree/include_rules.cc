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
  std::string header;  // empty when the line does not say it
  bool quoted = false;
};

// The header included by line `i`. Found in the code, which has lost what stands in quotes and after "//", and named by
// the line as written.
std::optional<Include> IncludeOn(const SourceFile& file, std::size_t i) {
  static const std::regex directive(R"(^\s*(#|%:)\s*(include|include_next|import)\b\s*)");
  static const std::regex torn_directive(R"(^\s*(#|%:)\s*[a-z_]*\\\s*$)");
  const std::string& code = file.code_lines[i];
  if (code.find_first_of("#%") == std::string::npos) return std::nullopt;
  if (std::regex_search(code, torn_directive)) return Include{};
  std::smatch match;
  if (!std::regex_search(code, match, directive)) return std::nullopt;
  const std::string& line = file.lines[i];
  const auto begin = static_cast<std::size_t>(match.length());
  const char open = begin < code.size() ? code[begin] : ' ';
  if (open != '<' && open != '"') return Include{};
  const std::size_t end = line.find(open == '<' ? '>' : '"', begin + 1);
  if (end == std::string::npos) return Include{};
  return Include{.header = line.substr(begin + 1, end - begin - 1), .quoted = open == '"'};
}

// What keeps the rules about headers from knowing which file `header` is; "" when nothing does.
std::string WhyUnclear(const std::string& header) {
  static const std::regex detour(R"(\.\.|//|(^|/)\./|^/|\\)");
  if (header.empty()) return "an #include names its header in <> or quotes on its own line, not by a macro";
  if (std::regex_search(header, detour)) return header + " is a detour: a header's path has no '..', '.', '//' or '\\'";
  return "";
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
      if (!include) continue;
      const int line = static_cast<int>(i) + 1;
      if (const std::string why = WhyUnclear(include->header); !why.empty()) {
        findings.push_back({file.path, line, why});
        continue;
      }
      if (IsQuotedLibrary(include->header) || (!include->quoted && !IsOurs(include->header))) continue;
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
