#include "tests/tree/cpp_scopes.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <utility>

namespace angel_ptm::tree {
namespace {

enum class BraceKind { kNamespace, kClass, kFunction, kInitializer };

// What parentheses and angle brackets of templates hold says nothing about the kind of a declaration.
std::string WithoutNested(const std::string& text) {
  std::string out;
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (depth == 0) out += c;
    if (c == ')' && --depth == 0) out += "()";
  }
  static const std::regex template_head(R"(template\s*<[^{};]*?>(?=\s*[A-Za-z_\[]))");
  return std::regex_replace(out, template_head, "");
}

// Does the brace after this text open a member's initializer, "Foo::Foo(int a) : a_" + "{a}"?
bool IsMemberInitializer(const std::string& outline) {
  static const std::regex list(R"(\)\s*(noexcept\s*)?:[^:])");
  static const std::regex ends_in_name(R"([A-Za-z0-9_>]\s*$)");
  // "...: a_(1) {" ends in a parenthesis and opens the body.
  return std::regex_search(outline, list) && std::regex_search(outline, ends_in_name);
}

BraceKind KindOf(const std::string& statement) {
  const std::string outline = WithoutNested(statement);
  static const std::regex namespace_head(R"(\bnamespace\b|\bextern\s*")");
  static const std::regex enum_head(R"(\benum\b)");
  static const std::regex class_word(R"(\b(class|struct|union)\b)");
  static const std::regex class_head(R"(^\s*(class|struct|union)\b[^()]*(alignas\(\))?[^()]*$)");
  static const std::regex lambda_head(R"(\]\s*\(\))");
  static const std::regex operator_name(R"(operator\s*[^\s(A-Za-z]+)");
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
  const bool is_lambda = std::regex_search(outline, lambda_head);
  if (without_operators.find('=') != std::string::npos && !is_lambda) return BraceKind::kInitializer;
  if (IsMemberInitializer(outline)) return BraceKind::kInitializer;
  return BraceKind::kFunction;
}

class Reader {
 public:
  explicit Reader(const SourceFile& file) : file_(file) {}

  CppScopes Run() {
    bool continued = false;
    for (std::size_t i = 0; i < file_.code_lines.size(); ++i) {
      const std::string& code = file_.code_lines[i];
      const std::size_t first = code.find_first_not_of(" \t");
      const bool directive = continued || (first != std::string::npos && code[first] == '#');
      continued = directive && code.ends_with("\\");
      if (directive) continue;
      line_ = static_cast<int>(i) + 1;
      for (const char c : code) Take(c);
      Take(' ');
    }
    return std::move(out_);
  }

 private:
  void Take(char c) {
    // Inside a function or an initializer only the end matters.
    if (opaque_depth_ > 0) {
      if (c == '{') ++opaque_depth_;
      if (c == '}' && --opaque_depth_ == 0) CloseOpaque();
      return;
    }
    if (c == '(') ++paren_depth_;
    if (c == ')') --paren_depth_;
    if (c == '{') return Open();
    if (c == '}') {
      after_class_ = !scopes_.empty() && scopes_.back() == BraceKind::kClass;
      if (!scopes_.empty()) scopes_.pop_back();
      statement_.clear();
      return;
    }
    statement_ += c;
    if (c == ';' && paren_depth_ == 0) EndStatement();
    if (c == ':' && IsAccessLabel()) statement_.clear();
  }

  void Open() {
    const BraceKind kind = paren_depth_ > 0 ? BraceKind::kInitializer : KindOf(statement_);
    if (kind == BraceKind::kNamespace || kind == BraceKind::kClass) {
      scopes_.push_back(kind);
      statement_.clear();
      after_class_ = false;
      return;
    }
    opaque_depth_ = 1;
    in_function_ = kind == BraceKind::kFunction;
    if (in_function_) out_.functions.push_back({Trimmed(statement_), line_, line_});
  }

  void CloseOpaque() {
    if (in_function_) {
      out_.functions.back().last_line = line_;
      statement_.clear();
    } else {
      statement_ += "{}";
    }
  }

  bool IsAccessLabel() const {
    const std::string text = Trimmed(statement_);
    return text == "public:" || text == "private:" || text == "protected:";
  }

  void EndStatement() {
    const std::string text = Trimmed(statement_);
    const bool at_namespace =
        std::all_of(scopes_.begin(), scopes_.end(), [](BraceKind kind) { return kind == BraceKind::kNamespace; });
    // "} name;" after a class belongs to the class.
    if (at_namespace && text != ";" && !after_class_) out_.statements.push_back({text, line_});
    after_class_ = false;
    statement_.clear();
  }

  static std::string Trimmed(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (std::isspace(static_cast<unsigned char>(c)) == 0) {
        out += c;
      } else if (!out.empty() && out.back() != ' ') {
        out += ' ';
      }
    }
    if (out.ends_with(' ')) out.pop_back();
    return out;
  }

  const SourceFile& file_;
  CppScopes out_;
  std::vector<BraceKind> scopes_;
  std::string statement_;
  int line_ = 0;
  int paren_depth_ = 0;
  int opaque_depth_ = 0;
  bool in_function_ = false;
  bool after_class_ = false;
};

}  // namespace

CppScopes ReadScopes(const SourceFile& file) { return Reader(file).Run(); }

}  // namespace angel_ptm::tree
