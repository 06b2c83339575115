// What the rule against environment variables and mutable globals finds, and what it lets be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/tree/planted_tree.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(PlantedTreeTest, EnvironmentIsReadOnlyInLaunch) {
  Plant("launch/main.cc", "const char* home = std::getenv(\"HOME\");\n");
  Plant("comm/a.cc", "// std::getenv is for launch\nconst char* kText = \"getenv\";\n");
  EXPECT_THAT(Check(CheckGlobalState), IsEmpty());
  for (const std::string name : {"getenv", "secure_getenv", "setenv", "putenv", "clearenv", "environ", "__environ"}) {
    Plant("comm/b.cc", "void F() {\n  g(" + name + ");\n}\n");
    EXPECT_THAT(Check(CheckGlobalState), ElementsAre(HasSubstr("comm/b.cc:2: " + name))) << name;
  }
}

TEST_F(PlantedTreeTest, MutableGlobalsAreFound) {
  Plant("comm/good.cc",
        "using A = int;\nconst int kA = 3;\nconstexpr std::array kB = {1, 2};\nint F(int a);\nMACRO(a, b);\nS& "
        "S::operator=(S&&) = default;\n"
        "struct S {\n  int member = 0;\n  static int Count();\n};\nnamespace n {\nenum class E { kA };\n}\n"
        "int G() {\n  static const int table[] = {1};\n  int local = 0;\n  return local + table[0];\n}\n");
  EXPECT_THAT(Check(CheckGlobalState), IsEmpty());
  for (const char* bad : {"int count = 0;\n", "static std::atomic<int> count{0};\n", "std::vector<int> cache;\n",
                          "void F() {\n  static int calls = 0;\n}\n", "void F() {\n  thread_local int scratch;\n}\n",
                          "struct S {\n  int a;\n};\nS shared = {};\n"}) {
    Plant("comm/bad.cc", "namespace angel_ptm {\nnamespace {\n" + std::string(bad) + "}\n}\n");
    EXPECT_THAT(Check(CheckGlobalState), ElementsAre(HasSubstr("comm/bad.cc:"))) << bad;
  }
}

}  // namespace
}  // namespace angel_ptm::tree
