// A small tree on disk for tests of the rules.
#ifndef ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_
#define ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {

using Rule = std::vector<Finding> (*)(const std::vector<SourceFile>&);

inline std::vector<std::string> Texts(const std::vector<Finding>& findings) {
  std::vector<std::string> texts;
  for (const Finding& finding : findings) texts.push_back(ToString(finding));
  return texts;
}

// A tree in a temporary folder that keeps every rule until a test plants a fault.
class PlantedTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Plant("angel_ptm/base/README.md", "# base\n");
    Plant("angel_ptm/base/status.h", "#include <string>\n#include \"absl/status/status.h\"\nint Code();\n");
    Plant("kernels/README.md", "# kernels\n");
    Plant("kernels/gemm.cc", "#include \"angel_ptm/base/status.h\"\nvoid Gemm() {}\n");
  }

  void Plant(const std::string& path, const std::string& text) { Spill(root_ / path, text); }
  std::vector<std::string> Check(Rule rule) { return Texts(rule(ReadTree(root_))); }
  // Runs git in the planted tree, even if the test itself runs in a hook of another repository.
  bool Git(const std::string& arguments) {
    const std::string command = "cd '" + root_.string() + "' && { unset $(git rev-parse --local-env-vars); git " +
                                arguments + "; } 2> /dev/null";
    return std::system(command.c_str()) == 0;
  }

  const TemporaryFolder folder_;
  const std::filesystem::path root_ = folder_.path();
};

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_
