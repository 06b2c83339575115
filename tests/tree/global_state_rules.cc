#include <algorithm>
#include <regex>
#include <string>

#include "tests/tree/cpp_scopes.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

bool IsLibrary(const std::string& path) {
  return StartsWithFolder(path, "angel_ptm") || StartsWithFolder(path, "kernels") || StartsWithFolder(path, "comm") ||
         StartsWithFolder(path, "optim");
}

// "int count = 0;" at namespace scope. Declarations with parentheses before any initializer are functions or macros.
bool IsMutableVariable(const std::string& statement) {
  static const std::regex other(
      R"(^(using|typedef|static_assert|class|struct|enum|union|namespace|template|friend|extern)\b|=\s*(default|delete)\s*;$)");
  static const std::regex constant(R"(\b(const|constexpr)\b)");
  if (std::regex_search(statement, other) || std::regex_search(statement, constant)) return false;
  return statement.substr(0, statement.find_first_of("={")).find('(') == std::string::npos;
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
  static const std::regex static_variable(R"(^\s*static\s(?!.*\b(const|constexpr)\b))");
  if (!IsLibrary(file.path) || IsGenerated(file)) return;
  const CppScopes scopes = ReadScopes(file);
  for (const NamespaceStatement& statement : scopes.statements) {
    if (!IsMutableVariable(statement.text)) continue;
    findings.push_back({file.path, statement.line, "a variable shared by all ranks of a process: " + statement.text});
  }
  for (const FunctionExtent& function : scopes.functions) {
    for (int line = function.first_line + 1; line < function.last_line; ++line) {
      const std::string& code = file.code_lines[static_cast<std::size_t>(line) - 1];
      if (code.find("static") == std::string::npos || !std::regex_search(code, static_variable)) continue;
      findings.push_back({file.path, line, "a static variable that is not const is shared by all ranks of a process"});
    }
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
