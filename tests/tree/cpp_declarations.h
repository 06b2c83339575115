// Reads single declarations, as far as the rule against mutable globals needs. Like cpp_scopes.h, it knows the
// constructs of this code base, not the language, and relies on clang-format's spaces: "a < b" compares, "A<B>" does
// not.
#ifndef ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_
#define ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_

#include <string>

namespace angel_ptm::tree {

// `text` with every run of blanks and line breaks replaced by one blank, and without blanks at its ends.
std::string OnOneLine(const std::string& text);

// `text` on one line, without the parts that say nothing about the kind of a declaration: heads and arguments of
// templates ("A<>" stays), attributes, alignas, decltype's operand.
std::string Bare(const std::string& text);

// Does `declaration`, such as "static const char* last = nullptr;", declare a variable that can change, itself or
// through its pointers? References, pointers to const that can be reassigned, and const pointers to mutable objects all
// count.
bool IsMutableVariable(const std::string& declaration);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_CPP_DECLARATIONS_H_
