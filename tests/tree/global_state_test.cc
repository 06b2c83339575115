// What the rule against environment variables and mutable globals finds, and what it permits.
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
  Plant("comm/a.cc", "// std::getenv is for launch\nconst char* const kText = \"getenv\";\n");
  EXPECT_THAT(Check(CheckGlobalState), IsEmpty());
  for (const std::string name : {"getenv", "secure_getenv", "setenv", "putenv", "clearenv", "environ", "__environ"}) {
    Plant("comm/b.cc", "void F() {\n  g(" + name + ");\n}\n");
    EXPECT_THAT(Check(CheckGlobalState), ElementsAre(HasSubstr("comm/b.cc:2: " + name))) << name;
  }
}

TEST_F(PlantedTreeTest, WhatCannotChangeIsNoGlobalState) {
  for (const char* good :
       {"using A = int;", "typedef int A;", "const int kA = 3;", "int const kA = 3;",
        "constexpr std::array kB = {1, 2};", "const char* const kName = \"a\";", "constexpr const char* kName = \"a\";",
        "const char* const kNames[2 * 3] = {};", "constexpr const char* kNames[] = {\"a\"};",
        "inline constexpr std::string_view kName = \"a\";", "const std::map<int, int*> kRows = Rows();",
        "extern const int kA;", "const int kA(3);", "const auto& kA = A();", "const unsigned char kBytes[] = {1};",
        "extern \"C\" void __tsan_acquire(void* address);", "void (*const kHook)(int) = nullptr;",
        "alignas(64) const int kA = 3;", "[[maybe_unused]] const int kA = 3;",
        "const std::unique_ptr<const int> kA = F();", "const auto kF = [](int a) { return a; };",
        // Functions.
        "int F();", "int F(int a);", "int F(int);", "void F(Graph);", "void F(const Graph&, Plan* p, int64_t);",
        "int F(int a = G(3), Options o = {1, 2});", "std::function<void()> F(std::function<int(int)> f);",
        "void F(int (*f)(int), float (&rows)[4], std::span<const float> x_BTC);", "void (*F(int a))(int);",
        "template <typename T, int N = 3>\nstd::vector<T> F(T a, const std::array<T, N>& b);",
        "template <> void F<int>(A);",
        "template <typename... Rows>\nfloat F(int64_t n, const float* a, const Rows*... rows);", "auto F(A a) -> B;",
        "S& S::operator=(S&&) = default;", "bool operator<(const A& a, const A& b);", "bool operator()(A a) const;",
        "S::S(int a) = default;", "S::~S() = default;", "inline S::S(A&& a) noexcept = default;",
        "decltype(f(1)) F(A a);", "__global__ void __launch_bounds__(256) K(float* y);", "MACRO(a, b);", "MACRO(&a);",
        "S(A) -> S<A>;",
        // Types.
        "class A;", "struct A;", "enum class A : int;", "template <typename T>\nstruct A;", "template class A<int>;",
        "enum class E { kA };", "enum E { kA = 1 };", "struct S final : A<int>, B {\n  int member = 0;\n  int* p;\n};",
        "struct S {\n  static int Count();\n  static bool Less(const A& a, const A& b) { return a < b; }\n};",
        "struct S {\n  static absl::StatusOr<std::unique_ptr<S>> Create(const A& a,\n      B b = {});\n};",
        "struct S {\n  static constexpr const char* kA = nullptr;\n  static const int kB = 1;\n};",
        "struct S {\n  template <typename T, int N = 3>\n  static T F(T a) {\n    return a;\n  }\n};",
        "struct S {\n  float operator[](int i) const { return a[i]; }\n  static int F(int);\n};",
        "template <typename T>\nconcept C = requires(T a) { a.x; };", "static_assert(sizeof(int) == 4);",
        "namespace n {\nenum class E { kA };\n}",
        // Inside functions.
        "int G() {\n  static const int table[] = {1};\n  int local = 0;\n  return local + table[0];\n}",
        "void G() {\n  static constexpr int64_t kA = 50, kB = 1000;\n  static const Json kNull;\n}",
        "void G() {\n  const char* p = nullptr;\n  f(static_cast<int>(3));\n}",
        "void G() {\n#pragma omp parallel for schedule(static, 1)\n  for (;;) f();\n}",
        "void G() { static const auto f = [](int a) { return a; }; }"}) {
    Plant("comm/good.cc", "namespace angel_ptm {\nnamespace {\n" + std::string(good) + "\n}\n}\n");
    EXPECT_THAT(Check(CheckGlobalState), IsEmpty()) << good;
  }
}

TEST_F(PlantedTreeTest, MutableGlobalsAreFound) {
  for (const char* bad :
       {"int count = 0;", "int count;", "int count(0);", "int count{0};", "auto count = 0;", "int count(kZero);",
        "int count(Zero());", "int count(zero);", "std::string name(\"a\");", "static std::atomic<int> count{0};",
        "static int count(0);", "inline int count = 0;", "constinit int count = 0;", "extern int count;",
        "extern \"C\" int count;", "volatile int count = 0;", "alignas(64) int count = 0;", "alignas(64) int count{0};",
        "[[maybe_unused]] int count{0};", "decltype(f(1)) count{0};", "MACRO(a) int count = 0;",
        "__device__ int count;", "template <typename T>\nint count = 0;", "int a = 1, b = 2;", "int S::calls = 0;",
        "auto [a, b] = F();",
        // Pointers and references, to const or not.
        "const char* last = nullptr;", "const char* names[] = {\"a\"};", "const char* names[2];", "const int* p(&kA);",
        "int* const p = new int;", "const int a = 1, *p = nullptr;", "const char** const p = F();", "int& a = F();",
        "const std::unique_ptr<int> p = F();", "const auto p = std::make_shared<int>(1);",
        // Variables whose const is only inside brackets.
        "std::vector<int> cache;", "std::map<int, const char*> cache;", "std::map<int, const char*> cache{};",
        "std::vector<std::pair<const int, int>> rows = F();", "std::array<const int*, 3> rows;",
        // Functions to be called later.
        "std::function<void()> hook;", "std::function<void()> hook{};", "std::function<const int(int)> hook = nullptr;",
        "void (*hook)() = nullptr;", "void (*hook)(const int*);", "void (*hook)(){nullptr};", "int (*table[3])(int a);",
        "auto hook = [](int a) { return a; };", "std::function<int(int)> hook = [](int a) {\n  return a;\n};",
        // Variables declared together with their type.
        "struct S {\n  int a;\n};\nS shared = {};", "struct S {\n  int a;\n} shared;",
        "struct {\n  int a;\n} shared = {1};", "struct S shared;", "enum E { kA } mode;",
        "static struct S {\n  int a;\n} shared;", "void F() {\n  static struct {\n    int a;\n  } shared;\n}",
        "enum class E mode = kA;",
        // Members.
        "struct S {\n  static int calls;\n};", "struct S {\n  static inline int calls = 0;\n};",
        "class S {\n public:\n  inline static std::map<int, const char*> cache;\n};",
        "class S {\n  static std::function<void()> hook;\n};", "struct S {\n  static const char* last;\n};",
        "struct S {\n  struct T {\n    static int calls;\n  };\n};",
        "struct S {\n  static inline S* instance{nullptr};\n};",
        // In functions.
        "void F() {\n  static int calls = 0;\n}", "void F() { static int calls; }",
        "void F() {\n  thread_local int scratch;\n}", "void F(bool x) {\n  if (x) { static int n; }\n}",
        "void F(bool x) {\n  if (x) static int n = 0;\n}", "void F() {\n  for (static int i = 0; i < 3; ++i) f();\n}",
        "void F() {\n  static const char* n = nullptr;\n}", "void F() {\n  static\n      int n = 0;\n}",
        "void F() {\n  static std::map<int, const char*> cache;\n}", "void F() {\n  static auto& a = *new A;\n}",
        "void F() {\n  static Foo foo(bar);\n}", "void F() {\n  f([] { static int n; });\n}",
        "const int kA = [] { static int n; return n; }();", "struct S {\n  void F() { static int n; }\n};",
        "#define COUNT(x) \\\n  static int x = 0\nint F();"}) {
    Plant("comm/bad.cc", "namespace angel_ptm {\nnamespace {\n" + std::string(bad) + "\n}\n}\n");
    EXPECT_THAT(Check(CheckGlobalState), ElementsAre(HasSubstr("comm/bad.cc:"))) << bad;
    Plant("comm/bad.cc", "// Generated by comm/tables.py\n" + std::string(bad) + "\n");
    EXPECT_THAT(Check(CheckGlobalState), ElementsAre(HasSubstr("comm/bad.cc:"))) << bad;
  }
}

}  // namespace
}  // namespace angel_ptm::tree
