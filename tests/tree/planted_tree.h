// A small tree on the disk for tests of the rules.
#ifndef ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_
#define ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {

using Rule = std::vector<Finding> (*)(const std::vector<SourceFile>&);

inline std::vector<std::string> Texts(const std::vector<Finding>& findings) {
  std::vector<std::string> texts;
  for (const Finding& finding : findings) texts.push_back(ToString(finding));
  return texts;
}

// A tree in a temporary folder that keeps every rule, until a test plants a fault.
class PlantedTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / ("angel_ptm_tree_test_" + std::to_string(getpid()));
    std::filesystem::remove_all(root_);
    Plant("angel_ptm/base/README.md", "# base\n");
    Plant("angel_ptm/base/status.h", "#include <string>\n#include \"absl/status/status.h\"\nint Code();\n");
    Plant("kernels/README.md", "# kernels\n");
    Plant("kernels/gemm.cc", "#include \"angel_ptm/base/status.h\"\nvoid Gemm() {}\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Plant(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::vector<std::string> Check(Rule rule) { return Texts(rule(ReadTree(root_))); }
  // In the planted tree, even when a hook of another repository runs the test.
  bool Git(const std::string& arguments) {
    const std::string command = "cd '" + root_.string() + "' && { unset $(git rev-parse --local-env-vars); git " +
                                arguments + "; } 2> /dev/null";
    return std::system(command.c_str()) == 0;
  }

  std::filesystem::path root_;
};

}  // namespace angel_ptm::tree

#endif  // ANGEL_PTM_TESTS_TREE_PLANTED_TREE_H_
