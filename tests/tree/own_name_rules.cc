#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/tree/reach.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

using FilesOfName = std::map<std::string, std::set<std::string>, std::less<>>;

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool IsProduct(const std::string& path) {
  return !StartsWithFolder(path, "tests") && !StartsWithFolder(path, "benchmarks") &&
         !StartsWithFolder(path, "kernels/cuda");
}

// Notes what a header offers: types, functions and macros at the beginning of a line.
void NoteOffers(const SourceFile& header, FilesOfName* offers) {
  static const std::array<std::regex, 4> declarations = {
      std::regex(R"(^(?:template <.*> )?(?:class|struct|enum class|enum|union) (\w+)(?: final)?(?: :.*)?\s*\{.*)"),
      std::regex(R"(^using (\w+) =.*)"), std::regex(R"(^#define (\w+).*)"),
      std::regex(R"(^(?!return|using|namespace|friend)[A-Za-z_][\w:<>,&\* ]*[ &\*>]([A-Z]\w*)\(.*)")};
  for (const std::string& line : header.code_lines) {
    std::smatch match;
    for (const std::regex& declaration : declarations) {
      if (std::regex_match(line, match, declaration) && !match[1].str().ends_with("_H_")) {
        (*offers)[match[1]].insert(header.path);
      }
    }
  }
}

struct Word {
  std::string text;
  bool is_own;       // neither somebody's member nor in a namespace that is named
  bool is_declared;  // after a type, or named as one
};

bool MayEndAType(std::string_view before) {
  if (before.empty()) return false;
  if (before.back() == '>' || before.back() == '&' || before.back() == '*') return true;
  std::size_t begin = before.size();
  while (begin > 0 && IsWord(before[begin - 1])) --begin;
  const std::string_view word = before.substr(begin);
  static const std::set<std::string_view> others = {"return", "else", "throw", "new", "co_return", "case", "goto"};
  return !word.empty() && !others.contains(word);
}

std::vector<Word> WordsOf(std::string_view line) {
  std::vector<Word> words;
  for (std::size_t i = 0; i < line.size();) {
    if (!IsWord(line[i])) {
      ++i;
      continue;
    }
    const std::size_t begin = i;
    while (i < line.size() && IsWord(line[i])) ++i;
    std::string_view before = line.substr(0, begin);
    const bool is_own = before.empty() || (before.back() != '.' && before.back() != ':' && !before.ends_with("->"));
    while (before.ends_with(' ')) before.remove_suffix(1);
    words.push_back({std::string(line.substr(begin, i - begin)), is_own, begin > 0 && MayEndAType(before)});
  }
  return words;
}

}  // namespace

std::vector<Finding> CheckOwnNames(const std::vector<SourceFile>& files) {
  FilesOfName offers, declared;
  for (const SourceFile& file : files) {
    if (!IsCpp(file.path) || !IsProduct(file.path)) continue;
    if (file.path.ends_with(".h")) NoteOffers(file, &offers);
    for (const std::string& line : file.code_lines) {
      for (const Word& word : WordsOf(line)) {
        if (word.is_declared) declared[word.text].insert(file.path);
      }
    }
  }
  std::vector<Finding> findings;
  Reach reach(files);
  for (const SourceFile& file : files) {
    if (!IsCpp(file.path) || !IsProduct(file.path)) continue;
    const std::set<std::string>& reached = reach.Of(file.path);
    const auto is_here = [&](const std::string& path) { return path == file.path || reached.contains(path); };
    std::set<std::string> seen;
    for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
      for (const Word& word : WordsOf(file.code_lines[i])) {
        const auto headers = offers.find(word.text);
        if (!word.is_own || headers == offers.end() || !seen.insert(word.text).second) continue;
        const std::set<std::string>& others = declared[word.text];
        if (std::ranges::any_of(headers->second, is_here) || std::ranges::any_of(others, is_here)) continue;
        findings.push_back({file.path, static_cast<int>(i) + 1,
                            word.text + " wants an include of \"" + *headers->second.begin() + "\""});
      }
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
