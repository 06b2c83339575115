// The folders that may hold C++, and who may include whom (ARCHITECTURE.md, "Layers").
#ifndef ANGEL_PTM_TESTS_TREE_LAYERS_H_
#define ANGEL_PTM_TESTS_TREE_LAYERS_H_

#include <string>
#include <vector>

namespace angel_ptm::tree {

struct Layer {
  std::string folder;
  std::vector<std::string> may_include;  // folders or single headers, the layer itself aside
  bool may_include_anything = false;
};

// The layer whose folder holds `path`, or null. If null, no rule says what the file may include, and CheckLayout
// reports it.
const Layer* LayerOf(const std::string& path);

// Is `path`, of a file or as an #include names it, below one of the top folders that hold layers?
bool IsOurs(const std::string& path);

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_LAYERS_H_
