#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <string>

#include "tests/tree/layers.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

namespace fs = std::filesystem;

// Would a compiler or a reader take this for C++, even if our rules do not know its extension?
bool IsLikeCpp(const fs::path& path) {
  static const std::set<std::string> extensions = {
      ".h",   ".cc",  ".cu",  ".cuh", ".hpp", ".hxx", ".hh",  ".h++",  ".cpp", ".cxx", ".c++", ".c",   ".cp",
      ".inc", ".inl", ".ipp", ".ixx", ".tpp", ".tcc", ".txx", ".cppm", ".ccm", ".mpp", ".def", ".hip", ".ptx"};
  std::string extension = path.extension();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  // "version_info.cc.in". Files that CMake configures in cmake/ follow CMake's rules, not ours.
  if (extension == ".in") return !StartsWithFolder(path, "cmake") && IsLikeCpp(path.stem());
  return extensions.contains(extension);
}

bool IsProgramText(const fs::path& path) {
  static const std::set<std::string> extensions = {".proto", ".py", ".sh"};
  return IsLikeCpp(path) || extensions.contains(path.extension());
}

// Build files and tools may also be at the top, in cmake/ and in folders such as .ci.
bool IsOutsideTheLayers(const std::string& path) {
  if (LayerOf(path) != nullptr) return false;
  if (IsOurs(path)) return true;  // angel_ptm/ without a layer
  const bool holds_tools =
      path.find('/') == std::string::npos || path.starts_with(".") || StartsWithFolder(path, "cmake");
  return holds_tools ? IsLikeCpp(path) : IsProgramText(path);
}

}  // namespace

std::vector<Finding> CheckLayout(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    if (file.path == "kernels/ops.def") continue;  // a list of names; what it is expanded into is read
    if (IsLikeCpp(file.path) && !IsCpp(file.path)) {
      findings.push_back(
          {file.path, 0, "C++ and CUDA files end in .h, .cc, .cu or .cuh: the tree's rules read no others"});
    }
    if (IsOutsideTheLayers(file.path)) {
      findings.push_back(
          {file.path, 0, "its folder is no layer of ARCHITECTURE.md, so no rule says whom it may include"});
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
