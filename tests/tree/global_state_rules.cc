#include <cstddef>
#include <regex>
#include <string>

#include "tests/tree/cpp_declarations.h"
#include "tests/tree/cpp_scopes.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

bool IsLibrary(const std::string& path) {
  return StartsWithFolder(path, "angel_ptm") || StartsWithFolder(path, "kernels") || StartsWithFolder(path, "comm") ||
         StartsWithFolder(path, "optim");
}

void CheckEnvironment(const SourceFile& file, std::vector<Finding>& findings) {
  static const std::regex environment(R"(\b(_*secure_getenv|getenv|setenv|unsetenv|putenv|clearenv|_*environ)\b)");
  if (StartsWithFolder(file.path, "launch")) return;
  for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
    std::smatch match;
    const std::string& code = file.code_lines[i];
    if (code.find("env") == std::string::npos || !std::regex_search(code, match, environment)) continue;
    findings.push_back({file.path, static_cast<int>(i) + 1, match.str() + ": only launch/ knows the environment"});
  }
}

void CheckVariables(const SourceFile& file, std::vector<Finding>& findings) {
  static const std::regex static_word(R"(\bstatic\b)");
  if (!IsLibrary(file.path)) return;
  const CppScopes scopes = ReadScopes(file);
  std::vector<Declaration> declarations = scopes.statics;
  for (const Declaration& statement : scopes.statements) {
    if (!std::regex_search(statement.text, static_word)) declarations.push_back(statement);
  }
  for (const Declaration& declaration : declarations) {
    if (!IsMutableVariable(declaration.text)) continue;
    findings.push_back(
        {file.path, declaration.line, "a variable shared by all ranks of a process: " + declaration.text});
  }
  for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
    if (file.code_lines[i].find("thread_local") == std::string::npos) continue;
    findings.push_back({file.path, static_cast<int>(i) + 1, "thread_local: threads are not ranks; pass the state"});
  }
}

}  // namespace

std::vector<Finding> CheckGlobalState(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    CheckEnvironment(file, findings);
    CheckVariables(file, findings);
  }
  return findings;
}

}  // namespace angel_ptm::tree
