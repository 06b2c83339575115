// Reads C++ files by counting braces: where functions begin and end, and what is declared static or at namespace scope.
// It knows the constructs of this code base, not the language.
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

struct Declaration {
  std::string text;  // on one line, with what its braces hold left out
  int line = 0;
};

struct CppScopes {
  std::vector<FunctionExtent> functions;
  std::vector<Declaration> statements;  // what stands outside functions and classes; lines are those of the ends
  std::vector<Declaration> statics;     // what says `static`, in any scope or in a macro, up to its end or first brace
};

CppScopes ReadScopes(const SourceFile& file);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_CPP_SCOPES_H_
