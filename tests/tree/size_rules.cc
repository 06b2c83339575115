#include <string>

#include "tests/tree/cpp_scopes.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {

std::vector<Finding> CheckSizes(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    if (!IsCpp(file.path) || IsGenerated(file)) continue;
    const int lines = static_cast<int>(file.lines.size());
    if (lines > kFileLinesMax) {
      findings.push_back({file.path, 0, std::to_string(lines) + " lines, at most " + std::to_string(kFileLinesMax)});
    }
    const int lines_max = IsCuda(file.path) ? kCudaFunctionLinesMax : kFunctionLinesMax;
    for (const FunctionExtent& function : ReadScopes(file).functions) {
      const int length = function.last_line - function.first_line + 1;
      if (length <= lines_max) continue;
      findings.push_back({file.path, function.first_line,
                          "function of " + std::to_string(length) + " lines, at most " + std::to_string(lines_max) +
                              ": " + function.declaration});
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
