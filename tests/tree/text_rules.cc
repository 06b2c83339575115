#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

namespace fs = std::filesystem;

bool IsSource(const std::string& path) {
  static const std::set<std::string> extensions = {".h",   ".cc",   ".cu", ".cuh",       ".proto", ".cmake",
                                                   ".txt", ".yaml", ".py", ".textproto", ".sh",    ""};
  return extensions.contains(fs::path(path).extension().string());
}

bool Mentions(const SourceFile& file, const std::string& text) {
  return std::any_of(file.lines.begin(), file.lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

// A folder may be described in its parent's README: "`configs/` example configurations".
void CheckReadmes(const std::vector<SourceFile>& files, std::vector<Finding>& findings) {
  std::set<std::string> folders_with_sources;
  std::map<std::string, const SourceFile*> readmes;
  for (const SourceFile& file : files) {
    const std::string folder = fs::path(file.path).parent_path();
    if (folder.empty()) continue;  // the project's own README.md is as long as it needs
    if (IsSource(file.path)) folders_with_sources.insert(folder);
    if (fs::path(file.path).filename() == "README.md") readmes[folder] = &file;
  }
  for (const std::string& folder : folders_with_sources) {
    const fs::path path(folder);
    const auto parent = readmes.find(path.parent_path());
    const bool named_above = parent != readmes.end() && Mentions(*parent->second, "`" + path.filename().string() + "/");
    if (!readmes.contains(folder) && !named_above) {
      findings.push_back({folder, 0, "has no README.md that says its invariant and entry points"});
    }
  }
  for (const auto& [folder, readme] : readmes) {
    if (readme->lines.size() <= kReadmeLinesMax) continue;
    findings.push_back(
        {readme->path, 0, std::to_string(readme->lines.size()) + " lines, at most " + std::to_string(kReadmeLinesMax)});
  }
}

// The words are assembled here, so that this file itself keeps the rule.
bool HasNote(const std::string& line) {
  static const std::array<std::string, 2> words = {std::string("TO") + "DO", std::string("FIX") + "ME"};
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return line.find(word) != std::string::npos; });
}

bool HasMachinePath(const std::string& line) {
  static const std::regex machine_path(R"re((^|[\s=(:,\[`>]["']?)/(work|root|home)/)re");
  return line.find('/') != std::string::npos && std::regex_search(line, machine_path);
}

}  // namespace

std::vector<Finding> CheckTexts(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  CheckReadmes(files, findings);
  for (const SourceFile& file : files) {
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const int line = static_cast<int>(i) + 1;
      if (HasNote(file.lines[i])) {
        findings.push_back({file.path, line, "a note to do something later: do it, or file an issue"});
      }
      if (HasMachinePath(file.lines[i])) {
        findings.push_back({file.path, line, "a path of one machine"});
      }
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
