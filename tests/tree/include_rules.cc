#include <algorithm>
#include <cstddef>
#include <optional>
#include <regex>
#include <string>
#include <string_view>

#include "tests/tree/layers.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

struct Include {
  std::string header;  // empty if the line does not name it
  bool quoted = false;
};

// The header included by line `i`. The directive is found in the code, where quoted text and comments are blanked; the
// header's name is taken from the line as written.
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

// Why the rules about headers cannot tell which file `header` is; "" if they can.
std::string WhyUnclear(const std::string& header) {
  static const std::regex detour(R"(\.\.|//|(^|/)\./|^/|\\)");
  if (header.empty()) return "an #include names its header in <> or quotes on its own line, not by a macro";
  if (std::regex_search(header, detour)) return header + " is a detour: a header's path has no '..', '.', '//' or '\\'";
  return "";
}

// Libraries whose headers are included with quotes.
bool IsQuotedLibrary(const std::string& header) {
  for (const char* library : {"absl", "google", "gmock", "gtest", "nlohmann"}) {
    if (StartsWithFolder(header, library)) return true;
  }
  return false;
}

bool MayInclude(const Layer& layer, const std::string& header) {
  if (layer.may_include_anything || StartsWithFolder(header, layer.folder)) return true;
  return std::any_of(layer.may_include.begin(), layer.may_include.end(), [&](const std::string& allowed) {
    return header == allowed || StartsWithFolder(header, allowed);
  });
}

// Headers, CUDA's included, and the list of ops, which is expanded where it is included.
bool IsIncludable(const std::string& header) {
  return header.ends_with(".h") || header.ends_with(".cuh") || header == "kernels/ops.def";
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "nothing of ours" : text;
}

struct GuardedHeader {
  std::regex pattern;  // of the header's path
  std::string word;    // what the including file or its folder must be named for
};

// Headers can also be reached by a longer path (<openmpi/mpi.h>), so each pattern may begin at any component.
const std::vector<GuardedHeader>& GuardedHeaders() {
  static const std::vector<GuardedHeader> guarded = {
      {std::regex(R"((^|/)(mpi[^/]*\.h(pp)?$|(openmpi|ompi|mpich|mvapich2?)/))"), "mpi"},
      // The CUDA toolkit's libraries and related ones.
      {std::regex(R"((^|/)cu(da|blas|dnn|fft|rand|solver|sparse|tensor|pti|file|dss|Complex|b/|te/|tlass/))"), "cuda"},
      {std::regex(R"((^|/)nv(/|JitLink|PTXCompiler|ToolsExt|blas|comp|cuvid|fatbin|functional|jpeg|ml|rtc|shmem|tx3))"),
       "cuda"},
      {std::regex(R"((^|/)(cooperative_groups|thrust/|crt/|npp|mma\.h$|sm_\d+_|fatbinary))"), "cuda"},
      // The toolkit's headers whose names do not show it: driver_types.h, vector_functions.hpp,
      // device_launch_parameters.h.
      {std::regex(R"((^|/)(builtin|common|device|driver|library|math|surface|texture|vector)_)"
                  R"([a-z_]*(types|functions|parameters|constants|descriptor)\.h(pp)?$)"),
       "cuda"},
      {std::regex(R"((^|/)(channel_descriptor|host_config|host_defines)\.h$)"), "cuda"},
      {std::regex(R"((^|/)nccl)"), "nccl"},
      {std::regex(R"((^|/)(liburing|io_uring))"), "uring"},
  };
  return guarded;
}

// Is `word` the name of the file or of one of its folders, or one of the words of the file's name?
bool IsNamedFor(const std::string& path, const std::string& word) {
  return std::regex_search(path, std::regex("(^|/)" + word + "/|(^|[/_.-])" + word + "([_.-][^/]*)?$"));
}

}  // namespace

std::vector<std::string> IncludedBy(const SourceFile& file) {
  std::vector<std::string> headers;
  for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
    const std::optional<Include> include = IncludeOn(file, i);
    if (include && !include->header.empty()) headers.push_back(include->header);
  }
  return headers;
}

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
      } else if (!IsIncludable(include->header)) {
        findings.push_back({file.path, line, include->header + " is not a header, .h or .cuh"});
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
      for (const GuardedHeader& guarded : GuardedHeaders()) {
        if (!std::regex_search(include->header, guarded.pattern) || IsNamedFor(file.path, guarded.word)) continue;
        findings.push_back({file.path, static_cast<int>(i) + 1,
                            "<" + include->header + "> belongs in files or folders named for '" + guarded.word + "'"});
      }
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
