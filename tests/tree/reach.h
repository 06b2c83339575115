// Which headers a source reaches through its includes.
#ifndef ANGEL_PTM_TESTS_TREE_REACH_H_
#define ANGEL_PTM_TESTS_TREE_REACH_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {

// Keeps a reference to `files`.
class Reach {
 public:
  explicit Reach(const std::vector<SourceFile>& files);

  // The headers that the C++ file at `path` includes, and those that our own headers among them reach.
  const std::set<std::string>& Of(const std::string& path);

 private:
  std::map<std::string, const SourceFile*, std::less<>> files_;
  std::map<std::string, std::set<std::string>> reached_;
};

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_REACH_H_
