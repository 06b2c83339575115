#include "tests/tree/source_tree.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace angel_ptm::tree {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kTextBytesMax = 1 << 20;

// What .gitignore names, for a tree without git.
bool IsLeftOut(const std::string& path, bool is_folder) {
  const std::string name = fs::path(path).filename();
  if (name == "__pycache__" || name == ".git" || name == "compile_commands.json") return true;
  const bool at_top = path.find('/') == std::string::npos;
  if (!is_folder || !at_top) return false;
  return name.starts_with("build") || name == "data" || name == "runs" || (name.starts_with(".") && name != ".ci");
}

std::set<std::string> WalkedPaths(const fs::path& root) {
  std::set<std::string> paths;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator(); ++it) {
    const std::string path = fs::relative(it->path(), root);
    if (IsLeftOut(path, it->is_directory())) {
      if (it->is_directory()) it.disable_recursion_pending();
      continue;
    }
    paths.insert(path);
  }
  return paths;
}

// The paths that `git ls-files <options>` lists in `root`; none when git is missing or refuses.
std::set<std::string> GitPaths(const fs::path& root, const std::string& options) {
  std::string folder;
  for (const char c : root.string()) folder += c == '\'' ? std::string("'\\''") : std::string(1, c);
  // If a hook runs this, git's variables are set and would name the hook's repository instead of the one in `root`.
  const std::string command = "cd '" + folder + "' && { unset $(git rev-parse --local-env-vars); git ls-files -z " +
                              options + "; } 2>/dev/null";
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  std::set<std::string> paths;
  std::string path;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    if (c != 0) {
      path += static_cast<char>(c);
    } else {
      paths.insert(std::move(path));
      path.clear();
    }
  }
  if (pclose(pipe) != 0) paths.clear();
  return paths;
}

std::string TopFolder(const std::string& path) { return path.substr(0, path.find('/') + 1); }  // "" at the top

std::optional<std::set<std::string>> PathsOfCheckout(const fs::path& root) {
  if (!fs::exists(root / ".git")) return std::nullopt;  // a folder, or a file in a worktree
  std::set<std::string> paths = GitPaths(root, "--cached");
  if (paths.empty()) return std::nullopt;
  std::set<std::string> folders = {""};
  for (const std::string& path : paths) folders.insert(TopFolder(path));
  // A top folder in which git knows no file is somebody's venv/ or notes, not part of the project.
  for (const std::string& path : GitPaths(root, "--others --exclude-standard")) {
    if (folders.contains(TopFolder(path))) paths.insert(path);
  }
  return paths;
}

std::vector<std::string> SplitLines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// Walks through C++ text and blanks everything that is not code.
class Blanker {
 public:
  explicit Blanker(std::string text) : text_(std::move(text)) {}

  std::string Run() {
    while (at_ < text_.size()) {
      if (Sees("//")) {
        BlankUntil("\n", /*keep_ends=*/false);
      } else if (Sees("/*")) {
        BlankUntil("*/", /*keep_ends=*/false);
      } else if (Sees("R\"")) {
        const std::size_t open = text_.find('(', at_);
        if (open == std::string::npos) return text_;
        const std::string close = ")" + text_.substr(at_ + 2, open - at_ - 2) + "\"";
        at_ = open;
        BlankUntil(close, /*keep_ends=*/true);
      } else if (text_[at_] == '"' || (text_[at_] == '\'' && !IsDigitSeparator())) {
        BlankLiteral(text_[at_]);
      } else {
        ++at_;
      }
    }
    return std::move(text_);
  }

 private:
  bool Sees(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }
  bool IsDigitSeparator() const {
    return at_ > 0 && at_ + 1 < text_.size() && std::isxdigit(static_cast<unsigned char>(text_[at_ - 1])) &&
           std::isxdigit(static_cast<unsigned char>(text_[at_ + 1]));
  }
  void Blank(std::size_t end) {
    for (; at_ < end; ++at_) {
      if (text_[at_] != '\n') text_[at_] = ' ';
    }
  }
  void BlankUntil(const std::string& close, bool keep_ends) {
    const std::size_t from = keep_ends ? at_ + 1 : at_ + 2;
    std::size_t end = text_.find(close, std::min(from, text_.size()));
    if (end == std::string::npos) end = text_.size();
    if (keep_ends) ++at_;
    Blank(keep_ends ? end : std::min(end + (close == "\n" ? 0 : close.size()), text_.size()));
    if (keep_ends) at_ = std::min(end + close.size(), text_.size());
  }
  void BlankLiteral(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n') end += text_[end] == '\\' ? 2 : 1;
    ++at_;
    Blank(std::min(end, text_.size()));
    ++at_;
  }

  std::string text_;
  std::size_t at_ = 0;
};

}  // namespace

std::string ToString(const Finding& finding) {
  return finding.path + (finding.line > 0 ? ":" + std::to_string(finding.line) : "") + ": " + finding.text;
}

bool IsCuda(const std::string& path) { return path.ends_with(".cu") || path.ends_with(".cuh"); }
bool IsCpp(const std::string& path) { return path.ends_with(".h") || path.ends_with(".cc") || IsCuda(path); }

bool IsGenerated(const SourceFile& file) {
  const std::size_t head = std::min<std::size_t>(file.lines.size(), 5);
  return std::any_of(file.lines.begin(), file.lines.begin() + static_cast<std::ptrdiff_t>(head),
                     [](const std::string& line) { return line.find("Generated by ") != std::string::npos; });
}

bool StartsWithFolder(const std::string& path, const std::string& folder) { return path.starts_with(folder + "/"); }

std::string BlankCommentsAndStrings(const std::string& text) { return Blanker(text).Run(); }

std::vector<SourceFile> ReadTree(const fs::path& root) {
  std::optional<std::set<std::string>> paths = PathsOfCheckout(root);
  if (!paths) paths = WalkedPaths(root);
  std::vector<SourceFile> files;
  for (const std::string& path : *paths) {
    // Git also lists deleted files, and other repositories as folders.
    if (!fs::is_regular_file(root / path)) continue;
    if (!IsCpp(path) && fs::file_size(root / path) > kTextBytesMax) continue;
    std::ifstream stream(root / path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    if (!IsCpp(path) && text.find('\0') != std::string::npos) continue;
    SourceFile file{.path = path, .lines = SplitLines(text), .code_lines = {}};
    if (IsCpp(path)) file.code_lines = SplitLines(BlankCommentsAndStrings(text));
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace angel_ptm::tree
