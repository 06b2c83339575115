// Reads single declarations, as far as the rule against mutable globals needs it. Like cpp_scopes.h it knows the
// constructs of this code base, not the language, and trusts clang-format's spaces: "a < b" compares, "A<B>" does not.
#ifndef ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_
#define ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_

#include <string>

namespace angel_ptm::tree {

// `text` with every stretch of blanks and line breaks as one blank, and none at its ends.
std::string OnOneLine(const std::string& text);

// `text`, on one line, without what says nothing about the kind of a declaration: the heads and arguments of templates
// ("A<>" stays), attributes, alignas, decltype's operand.
std::string Bare(const std::string& text);

// Does `declaration`, "static const char* last = nullptr;", declare a variable that can change, itself or through its
// pointers? References, pointers to const that may point elsewhere and const pointers to what may change all can.
bool IsMutableVariable(const std::string& declaration);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_
