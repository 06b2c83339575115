// The rules the tree keeps about itself. Each is a function from the files to what breaks it, so that the tests can
// also hand it a tree in which it is broken.
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

// C++ only in the layers' folders and with the extensions that the other rules read; nothing in angel_ptm/ outside its
// layers; no programs in other folders at the top than the layers' and cmake/.
std::vector<Finding> CheckLayout(const std::vector<SourceFile>& files);

// Who may include whom (ARCHITECTURE.md, "Layers"), and that our headers are included by their path from the root, each
// include naming its header plainly.
std::vector<Finding> CheckIncludeRules(const std::vector<SourceFile>& files);

// The headers that a file's lines name, in order, whether there are such or not.
std::vector<std::string> IncludedBy(const SourceFile& file);

// A source reaches, by its own includes or by those of our headers that it includes, a header that declares each name
// of the standard library, abseil, GoogleTest and nlohmann_json that it uses. Precompiled headers
// (cmake/AngelPtmPrecompile.cmake) hide from the compiler what is missing.
std::vector<Finding> CheckNames(const std::vector<SourceFile>& files);

// A source of the product, kernels/cuda aside, reaches a header that declares each of our types, functions and macros
// that it uses. Sources that are compiled several in one (ANGEL_PTM_JOIN_SOURCES) hide from the compiler what is
// missing. A name that something reached declares as something else too, a member say, is left out.
std::vector<Finding> CheckOwnNames(const std::vector<SourceFile>& files);

// A source of kernels/cpu is in `level_sources` of kernels/CMakeLists.txt exactly when it or a header that it reaches
// looks for instructions for matrices (`__AVX512BF16__`, `__AMX_...`) or the level's name: the others are compiled
// without.
std::vector<Finding> CheckLevelSources(const std::vector<SourceFile>& files);

// mpi.h only in files with the word `mpi` in their name (comm/mpi_node.cc) or in a folder of that name, CUDA's headers
// with `cuda`, nccl.h with `nccl`, liburing.h with `uring`.
std::vector<Finding> CheckSystemHeaders(const std::vector<SourceFile>& files);

// A function's lines from its opening to its closing brace, and a file's lines.
std::vector<Finding> CheckSizes(const std::vector<SourceFile>& files);

// Several ranks live in one process in the tests: no environment variables outside launch/ (tests included); in
// the libraries, generated files too, no variable that outlives a function and can change or leads to what can.
std::vector<Finding> CheckGlobalState(const std::vector<SourceFile>& files);

// A README.md of at most kReadmeLinesMax lines in every folder with sources, or the folder's name with what it is in
// its parent's; no notes to do later; no path of somebody's machine.
std::vector<Finding> CheckTexts(const std::vector<SourceFile>& files);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_TREE_RULES_H_
