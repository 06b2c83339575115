// The rules that the tree keeps about itself. Each is a function from the files to the findings, so that tests can also
// pass a tree that breaks the rule.
#ifndef ANGEL_PTM_TESTS_TREE_TREE_RULES_H_
#define ANGEL_PTM_TESTS_TREE_TREE_RULES_H_

#include <string>
#include <vector>

#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {

inline constexpr int kFunctionLinesMax = 70;
inline constexpr int kCudaFunctionLinesMax = 120;
inline constexpr int kFileLinesMax = 500;
inline constexpr int kReadmeLinesMax = 30;

// C++ is only in the layers' folders, with the extensions that the other rules read. Nothing in angel_ptm/ is outside
// its layers. Top folders other than the layers' and cmake/ contain no programs.
std::vector<Finding> CheckLayout(const std::vector<SourceFile>& files);

// Who may include whom (ARCHITECTURE.md, "Layers"). Our headers are included by their path from the root, and each
// include names its header plainly.
std::vector<Finding> CheckIncludeRules(const std::vector<SourceFile>& files);

// The headers that a file's lines name, in order, whether they exist or not.
std::vector<std::string> IncludedBy(const SourceFile& file);

// For each name of the standard library, abseil, GoogleTest and nlohmann_json that a source uses, it reaches a header
// that declares the name, by its own includes or by those of our headers that it includes. Precompiled headers
// (cmake/AngelPtmPrecompile.cmake) hide missing includes from the compiler.
std::vector<Finding> CheckNames(const std::vector<SourceFile>& files);

// A source of the product, except in kernels/cuda, reaches a header that declares each of our types, functions and
// macros that it uses. Compiling several sources as one (ANGEL_PTM_JOIN_SOURCES) hides missing includes from the
// compiler. A name is skipped if a reached file declares it as something else too, such as a member.
std::vector<Finding> CheckOwnNames(const std::vector<SourceFile>& files);

// A source of kernels/cpu is in `level_sources` of kernels/CMakeLists.txt exactly if it or a header that it reaches
// tests for matrix instructions (`__AVX512BF16__`, `__AMX_...`) or for the level's name: the other sources are compiled
// without.
std::vector<Finding> CheckLevelSources(const std::vector<SourceFile>& files);

// mpi.h is included only in files with the word `mpi` in their name (comm/mpi_node.cc) or in a folder of that name;
// CUDA's headers with `cuda`, nccl.h with `nccl`, liburing.h with `uring`.
std::vector<Finding> CheckSystemHeaders(const std::vector<SourceFile>& files);

// Limits on a function's lines, from its opening to its closing brace, and on a file's lines.
std::vector<Finding> CheckSizes(const std::vector<SourceFile>& files);

// In the tests several ranks share a process. So nothing outside launch/ (tests included) reads environment variables,
// and the libraries, generated files included, have no variable that outlives a function and can change or leads to
// something that can.
std::vector<Finding> CheckGlobalState(const std::vector<SourceFile>& files);

// Every folder with sources has a README.md of at most kReadmeLinesMax lines, or its parent's README describes it.
// There are no to-do notes and no paths of somebody's machine.
std::vector<Finding> CheckTexts(const std::vector<SourceFile>& files);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_TREE_RULES_H_
