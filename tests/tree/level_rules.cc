#include <algorithm>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/tree/reach.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

constexpr char kList[] = "kernels/CMakeLists.txt";

// The paths that `level_sources` is set to.
std::set<std::string> LevelSources(const SourceFile& list) {
  std::string text;
  for (const std::string& line : list.lines) text += line + "\n";
  static const std::regex assignment(R"(set\(level_sources([^)]*)\))");
  std::smatch match;
  std::set<std::string> sources;
  if (!std::regex_search(text, match, assignment)) return sources;
  std::istringstream words(match[1]);
  for (std::string word; words >> word;) sources.insert("kernels/" + word);
  return sources;
}

bool NamesLevel(const SourceFile& file) {
  static const std::regex names(R"(__AVX512BF16__|__AMX_|\bANGEL_PTM_CPU_KERNELS\b)");
  return std::any_of(file.code_lines.begin(), file.code_lines.end(),
                     [](const std::string& line) { return std::regex_search(line, names); });
}

}  // namespace

std::vector<Finding> CheckLevelSources(const std::vector<SourceFile>& files) {
  const std::string folder = "kernels/cpu";
  std::set<std::string> listed;
  std::set<std::string> naming;  // files that name what only some levels have
  for (const SourceFile& file : files) {
    if (file.path == kList) listed = LevelSources(file);
    if (StartsWithFolder(file.path, folder) && NamesLevel(file)) naming.insert(file.path);
  }
  std::vector<Finding> findings;
  Reach reach(files);
  for (const SourceFile& file : files) {
    if (!StartsWithFolder(file.path, folder) || !file.path.ends_with(".cc")) continue;
    const std::set<std::string>& reached = reach.Of(file.path);
    const auto named = std::find_if(naming.begin(), naming.end(), [&](const std::string& path) {
      return path == file.path || reached.contains(path);
    });
    const bool is_listed = listed.contains(file.path);
    if (named != naming.end() && !is_listed) {
      findings.push_back({file.path, 0, *named + " looks for what one level has: wanted in level_sources of " + kList});
    } else if (named == naming.end() && is_listed) {
      findings.push_back(
          {file.path, 0, "is in level_sources of " + std::string(kList) + ", but is alike in all levels"});
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
