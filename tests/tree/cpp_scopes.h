// A brace-counting reading of C++ files: where functions begin and end, and what is declared at namespace scope. It
// knows the constructs of this code base, not the language.
#ifndef ANGEL_PTM_TESTS_TREE_CPP_SCOPES_H_
#define ANGEL_PTM_TESTS_TREE_CPP_SCOPES_H_

#include <string>
#include <vector>

#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {

struct FunctionExtent {
  std::string declaration;  // what stands before the body, "void Foo(int a)"
  int first_line = 0;       // of the opening brace, counted from 1
  int last_line = 0;        // of the closing brace
};

struct NamespaceStatement {
  std::string text;  // a statement outside functions and classes, with what its braces hold left out
  int line = 0;      // of its end
};

struct CppScopes {
  std::vector<FunctionExtent> functions;
  std::vector<NamespaceStatement> statements;
};

CppScopes ReadScopes(const SourceFile& file);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_CPP_SCOPES_H_
