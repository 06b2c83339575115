#include "tests/tree/cpp_scopes.h"

#include <algorithm>
#include <cstddef>
#include <regex>
#include <utility>

#include "tests/tree/cpp_declarations.h"

namespace angel_ptm::tree {
namespace {

enum class BraceKind { kNamespace, kClass, kFunction, kLambda, kInitializer };

// The contents of parentheses say nothing about the kind of a declaration.
std::string WithoutNested(const std::string& text) {
  std::string out;
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (depth == 0) out += c;
    if (c == ')' && --depth == 0) out += "()";
  }
  return out;
}

// Does the brace after this text open a member's initializer, "Foo::Foo(int a) : a_" + "{a}"?
bool IsMemberInitializer(const std::string& outline) {
  static const std::regex list(R"(\)\s*(noexcept\s*)?:[^:])");
  static const std::regex ends_in_name(R"([A-Za-z0-9_>]\s*$)");
  // "...: a_(1) {" ends in a parenthesis and opens the body.
  return std::regex_search(outline, list) && std::regex_search(outline, ends_in_name);
}

BraceKind KindOf(const std::string& statement) {
  const std::string bare = Bare(statement);
  const std::string outline = WithoutNested(bare);
  static const std::regex namespace_head(R"(\bnamespace\b|\bextern\s*")");
  static const std::regex enum_head(R"(\benum\b)");
  static const std::regex class_word(R"(\b(class|struct|union)\b)");
  static const std::regex class_head(R"(^\s*(class|struct|union)\b[^()]*$)");
  static const std::regex lambda_head(R"(\]\s*\(\))");
  static const std::regex operator_name(R"(operator\s*[^\s(A-Za-z]+)");
  static const std::regex function_pointer(R"(^[^()]*\s\(\s*(\w+::)?\*[^()]*\)\s*\()");
  const std::string without_operators = std::regex_replace(outline, operator_name, "operator_name");
  if (std::regex_search(outline, namespace_head)) {
    return BraceKind::kNamespace;
  }
  const bool has_call = outline.find("()") != std::string::npos;
  if (std::regex_search(outline, enum_head)) return BraceKind::kInitializer;
  if (!has_call || std::regex_search(outline, class_head)) {
    return std::regex_search(outline, class_word) && without_operators.find('=') == std::string::npos
               ? BraceKind::kClass
               : BraceKind::kInitializer;
  }
  const bool is_lambda = std::regex_search(without_operators, lambda_head);
  if (without_operators.find('=') != std::string::npos && !is_lambda) return BraceKind::kInitializer;
  if (is_lambda) return BraceKind::kLambda;
  if (IsMemberInitializer(outline)) return BraceKind::kInitializer;
  // "void (*hook)()" + "{nullptr}"
  return std::regex_search(bare, function_pointer) ? BraceKind::kInitializer : BraceKind::kFunction;
}

std::vector<bool> DirectiveLines(const SourceFile& file) {
  std::vector<bool> directives;
  bool continued = false;
  for (const std::string& code : file.code_lines) {
    const std::size_t first = code.find_first_not_of(" \t");
    directives.push_back(continued || (first != std::string::npos && code[first] == '#'));
    continued = directives.back() && code.ends_with("\\");
  }
  return directives;
}

struct Scope {
  BraceKind kind;
  std::string head;  // what stands before the brace
};

class Reader {
 public:
  explicit Reader(const SourceFile& file) : file_(file) {}

  CppScopes Run() {
    const std::vector<bool> directives = DirectiveLines(file_);
    for (std::size_t i = 0; i < file_.code_lines.size(); ++i) {
      if (directives[i]) continue;
      line_ = static_cast<int>(i) + 1;
      for (const char c : file_.code_lines[i]) Take(c);
      Take(' ');
    }
    return std::move(out_);
  }

 private:
  void Take(char c) {
    // Inside a function or an initializer only its end matters.
    if (opaque_depth_ > 0) {
      if (c == '{') ++opaque_depth_;
      if (c == '}' && --opaque_depth_ == 0) CloseOpaque();
      return;
    }
    if (c == '(') ++paren_depth_;
    if (c == ')') --paren_depth_;
    if (c == '{') return Open();
    if (c == '}') {
      // "} name;" continues the statement that the class began.
      const bool is_class = !scopes_.empty() && scopes_.back().kind == BraceKind::kClass;
      statement_ = is_class ? scopes_.back().head + "{}" : "";
      if (!scopes_.empty()) scopes_.pop_back();
      return;
    }
    statement_ += c;
    if (c == ';' && paren_depth_ == 0) EndStatement();
    if (c == ':' && IsAccessLabel()) statement_.clear();
  }

  void Open() {
    const BraceKind kind = paren_depth_ > 0 ? BraceKind::kInitializer : KindOf(statement_);
    if (kind == BraceKind::kNamespace || kind == BraceKind::kClass) {
      scopes_.push_back({kind, std::move(statement_)});
      statement_.clear();
      return;
    }
    opaque_depth_ = 1;
    opaque_ = kind;
    if (kind != BraceKind::kInitializer) out_.functions.push_back({OnOneLine(statement_), line_, line_});
  }

  void CloseOpaque() {
    if (opaque_ != BraceKind::kInitializer) out_.functions.back().last_line = line_;
    if (opaque_ == BraceKind::kFunction) {
      statement_.clear();
    } else {
      statement_ += "{}";  // a lambda, too, belongs to the variable that it initialises
    }
  }

  bool IsAccessLabel() const {
    const std::string text = OnOneLine(statement_);
    return text == "public:" || text == "private:" || text == "protected:";
  }

  void EndStatement() {
    const bool at_namespace =
        std::all_of(scopes_.begin(), scopes_.end(), [](const Scope& s) { return s.kind == BraceKind::kNamespace; });
    const std::string text = OnOneLine(statement_);
    if (at_namespace && text != ";") out_.statements.push_back({text, line_});
    statement_.clear();
  }

  const SourceFile& file_;
  CppScopes out_;
  std::vector<Scope> scopes_;
  std::string statement_;
  int line_ = 0;
  int paren_depth_ = 0;
  int opaque_depth_ = 0;
  BraceKind opaque_ = BraceKind::kInitializer;
};

// The code as one text with the file's line breaks. Of directives, only the replacement text of #define remains,
// between semicolons: a static variable in a macro is one wherever the macro is used.
std::string CodeWithMacros(const SourceFile& file) {
  static const std::regex define(R"(^\s*#\s*define\s+\w+(\([^)]*\))?)");
  const std::vector<bool> directives = DirectiveLines(file);
  std::string text;
  bool defines = false;
  bool continued = false;
  for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
    std::string code = file.code_lines[i];
    if (directives[i]) {
      std::smatch match;
      if (!continued) {
        defines = std::regex_search(code, match, define);
        if (defines) code = ";" + match.suffix().str();
      }
      if (!defines) code.clear();
      continued = file.code_lines[i].ends_with("\\");
      if (code.ends_with("\\")) code.pop_back();
      if (!continued) code += ";";
    }
    text += code + "\n";
  }
  return text;
}

std::vector<Declaration> ReadStatics(const SourceFile& file) {
  static const std::regex word(R"(\bstatic\b)");
  const std::string text = CodeWithMacros(file);
  std::vector<Declaration> out;
  for (std::sregex_iterator it(text.begin(), text.end(), word); it != std::sregex_iterator(); ++it) {
    const auto at = static_cast<std::size_t>(it->position());
    // Also "const static int n" and "if (once) static int n;"; the head of a template says nothing.
    const std::size_t begin = text.find_last_of(";{}:(),>", at) + 1;
    int depth = 0;
    std::size_t end = at;
    for (; end < text.size(); ++end) {
      const char c = text[end];
      if (depth == 0 && (c == ';' || c == '{' || c == ')' || c == '}')) break;
      if (c == '(' || c == '{') ++depth;
      if (c == ')' || c == '}') --depth;
    }
    const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1;
    out.push_back({OnOneLine(text.substr(begin, end - begin)) + ";", static_cast<int>(line)});
  }
  return out;
}

}  // namespace

CppScopes ReadScopes(const SourceFile& file) {
  CppScopes scopes = Reader(file).Run();
  scopes.statics = ReadStatics(file);
  return scopes;
}

}  // namespace angel_ptm::tree
