#include "tests/tree/cpp_declarations.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <regex>
#include <vector>

namespace angel_ptm::tree {
namespace {

constexpr std::size_t kNone = std::string::npos;

bool OpensBracket(char c) { return c == '(' || c == '[' || c == '{'; }
bool ClosesBracket(char c) { return c == ')' || c == ']' || c == '}'; }

// The bracket that closes the one at `open`; kNone if it stays open.
std::size_t ClosingBracket(const std::string& text, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (OpensBracket(text[i])) ++depth;
    if (ClosesBracket(text[i]) && --depth == 0) return i;
  }
  return kNone;
}

std::size_t ClosingAngle(const std::string& text, std::size_t open) {
  int angles = 0;
  int brackets = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    const char c = text[i];
    if (OpensBracket(c)) ++brackets;
    if (ClosesBracket(c) && --brackets < 0) return kNone;
    if (brackets > 0) continue;
    if (c == '<') ++angles;
    if (c == '>' && text[i - 1] != '-' && --angles == 0) return i;
  }
  return kNone;
}

std::string WithoutTemplateArguments(const std::string& text) {
  static const std::regex before_arguments(R"((\btemplate\s*|\w)$)");
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool opens = text[i] == '<' && std::regex_search(out, before_arguments) && !out.ends_with("operator");
    const std::size_t close = opens ? ClosingAngle(text, i) : kNone;
    out += text[i];
    if (close == kNone) continue;
    out += '>';
    i = close;
  }
  return out;
}

// `text` split at the commas outside brackets.
std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts = {""};
  int depth = 0;
  for (const char c : text) {
    if (OpensBracket(c)) ++depth;
    if (ClosesBracket(c)) --depth;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// `text` without brackets and their contents.
std::string WithoutBrackets(std::string text) {
  for (std::size_t open = 0; (open = text.find_first_of("([{", open)) != kNone;) {
    text.erase(open, std::min(ClosingBracket(text, open), text.size() - 1) + 1 - open);
  }
  return text;
}

// The part before the initializer, the body or the end.
std::string Head(const std::string& text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (depth == 0 && (text[i] == '=' || text[i] == '{' || text[i] == ';')) return text.substr(0, i);
    if (OpensBracket(text[i])) ++depth;
    if (ClosesBracket(text[i])) --depth;
  }
  return text;
}

std::ptrdiff_t CountWords(const std::string& text) {
  static const std::regex word(R"([\w:~]*\w)");
  return std::distance(std::sregex_iterator(text.begin(), text.end(), word), std::sregex_iterator());
}

// Is `part` of "Name(part, part)" a parameter rather than a value? Where the language would need to know what a name
// means, its spelling decides: types and functions begin in upper case, variables and constants do not.
bool IsParameter(const std::string& part, bool of_upper_case_name) {
  static const std::regex builtin(
      R"(^(const|volatile|struct|class|enum|union|typename|unsigned|signed|auto|void|bool|char|short|int|long|float|)"
      R"(double)\b(?!\s*(\{|\((?!\s*[*&]))))");
  static const std::regex with_declarator(
      R"(^[\w:]+(<>)?(([*&]+|\.\.\.)+\s*(const\b\s*|__restrict\b\s*)?|\s+const\b\s*[*&]*\s*)"
      R"(|\s+(?=\w))(\.\.\.)?\w*(\[[^\]]*\])*$)");
  static const std::regex function_pointer(R"(^[\w:<>]+[*&]*\s+\([*&])");
  static const std::regex value(R"(^(nullptr|true|false|this|\d.*|k[A-Z]\w*|[\w:]*::k[A-Z]\w*)$)");
  static const std::regex name(R"(^[\w:]+(<>)?$)");
  const std::string text = OnOneLine(part.substr(0, part.find('=')));
  if (text == "..." || std::regex_search(text, builtin) || std::regex_search(text, function_pointer)) return true;
  if (std::regex_match(text, value)) return false;
  if (!std::regex_match(text, name)) return std::regex_match(text, with_declarator);
  const bool is_like_a_type = text.ends_with("_t") || text.ends_with('>') || text.find("::") != kNone ||
                              std::isupper(static_cast<unsigned char>(text[0])) != 0;
  return is_like_a_type && (of_upper_case_name || text.ends_with("_t"));
}

// "int Count(int a)" is a function, "int count(3)" a variable; `open` is the position of the parenthesis.
bool IsFunction(const std::string& head, std::size_t open) {
  static const std::regex after_parameters(R"(^\s*(const|noexcept|override|requires|->|&))");
  static const std::regex last_name(R"((\w+)(<>)?\s*$)");
  const std::size_t close = std::min(ClosingBracket(head, open), head.size());
  const std::string inside = OnOneLine(head.substr(open + 1, close - open - 1));
  if (inside.empty() || std::regex_search(head.substr(std::min(close + 1, head.size())), after_parameters)) return true;
  std::smatch match;
  const std::string before = head.substr(0, open);
  const bool is_upper =
      std::regex_search(before, match, last_name) && std::isupper(static_cast<unsigned char>(match.str()[0])) != 0;
  const std::vector<std::string> parts = SplitAtCommas(inside);
  return std::all_of(parts.begin(), parts.end(), [&](const std::string& part) { return IsParameter(part, is_upper); });
}

// A type cannot be static, only a variable of it, so "static struct S {} shared;" declares one.
bool DeclaresNoVariable(const std::string& text, bool is_static) {
  static const std::regex other(
      R"(^(using|typedef|static_assert|namespace|friend|concept|asm)\b|=\s*(default|delete)\s*;$)");
  static const std::regex class_word(R"(^(class|struct|union|enum)\b)");
  static const std::regex forward(R"(^(enum\s+)?(class|struct|union|enum)\s+[\w:]+(<>)?\s*(:\s*[\w:]+\s*)?;$)");
  static const std::regex operator_name(R"(^[^=]*\boperator\b)");
  if (text == ";" || std::regex_search(text, other) || std::regex_search(text, operator_name)) return true;
  if (is_static || !std::regex_search(text, class_word)) return false;
  const std::size_t body = text.find("{}");
  if (body != kNone && Head(text).size() == body) return OnOneLine(text.substr(body + 2)) == ";";
  return std::regex_match(text, forward);
}

// Does `declarator`, such as "const char* const kName", declare a variable that is const and points only to const?
bool IsConstant(const std::string& declarator) {
  static const std::regex constant(R"(\bconst\b)");
  const std::string head = WithoutBrackets(declarator);
  // "const char* a[2]": the part before each star is what it points to, and the rest is the variable.
  std::size_t begin = 0;
  while (begin <= head.size()) {
    const std::size_t star = std::min(head.find('*', begin), head.size());
    if (!std::regex_search(head.substr(begin, star - begin), constant)) return false;
    begin = star + 1;
  }
  return true;
}

}  // namespace

std::string OnOneLine(const std::string& text) {
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

std::string Bare(const std::string& text) {
  static const std::regex attribute(R"(\[\[[^\]]*\]\]|\btemplate\s*<>)");
  static const std::regex with_operand(R"(\b(alignas|decltype|__attribute__|__launch_bounds__|noexcept)\s*\()");
  std::string bare = std::regex_replace(WithoutTemplateArguments(text), attribute, " ");
  for (std::smatch match; std::regex_search(bare, match, with_operand);) {
    const auto at = static_cast<std::size_t>(match.position());
    const std::size_t close = ClosingBracket(bare, at + static_cast<std::size_t>(match.length()) - 1);
    if (close == kNone) break;
    bare.replace(at, close + 1 - at, match[1] == "decltype" ? "Decltype" : " ");
  }
  return OnOneLine(bare);
}

bool IsMutableVariable(const std::string& declaration) {
  static const std::regex linkage(R"(^(template\b|extern\b(\s*"\s*")?|inline\b|static\b|\s)+)");
  static const std::regex static_word(R"(\bstatic\b)");
  static const std::regex always_constant(R"(\b(constexpr|__shared__)\b)");
  static const std::regex owner(R"(\b(unique_ptr|make_unique|shared_ptr|make_shared)<(?!const\b))");
  static const std::regex pointer_declarator(R"(^\s*(\w+::)?[*&][^()]*$)");
  static const std::regex further_pointer(R"(,\s*\*(?!\s*const\b))");
  const std::string text = std::regex_replace(Bare(declaration), linkage, "");
  if (DeclaresNoVariable(text, std::regex_search(declaration, static_word))) return false;
  std::string head = Head(text);
  if (std::regex_search(head, always_constant)) return false;
  if (const std::size_t open = head.find('('); open != kNone) {
    const std::size_t close = std::min(ClosingBracket(head, open), head.size());
    const std::string before = head.substr(0, open);
    const std::string inside = head.substr(open + 1, close - open - 1);
    // "void (*hook)()", "int (&rows)[4]" and "int* first(&a)", but not "MACRO(&a)".
    const bool is_pointer =
        std::regex_search(inside, pointer_declarator) && (before.ends_with(' ') || CountWords(before) >= 2);
    if (is_pointer && head.find('(', close) != kNone) return !IsConstant("const " + inside);
    if (!is_pointer && CountWords(before) < 2) {
      // A macro, a constructor or "Foo(A) -> Foo<B>"; a declaration can follow only after a macro.
      const std::string after = OnOneLine(text.substr(std::min(close + 1, text.size())));
      return CountWords(Head(after)) >= 2 && !after.starts_with("->") && IsMutableVariable(after);
    }
    if (!is_pointer && IsFunction(head, open)) return false;
    head = before + (is_pointer ? inside : "");
  }
  const std::string commas = WithoutBrackets(text);
  return !IsConstant(head) || std::regex_search(commas, further_pointer) || std::regex_search(declaration, owner);
}

}  // namespace angel_ptm::tree
