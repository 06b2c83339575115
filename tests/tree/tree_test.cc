// The tree keeps its rules, and each rule detects a breach: a small tree is planted with one fault at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/tree/planted_tree.h"
#include "tests/tree/source_tree.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<SourceFile>& Repository() {
  static const std::vector<SourceFile> files = ReadTree(ANGEL_PTM_SOURCE_DIR);
  return files;
}

TEST(RepositoryTest, IsReadWhole) {
  int sources = 0;
  for (const SourceFile& file : Repository()) sources += IsCpp(file.path) ? 1 : 0;
  EXPECT_GT(sources, 100);
}

TEST(RepositoryTest, FilesLieInTheLayers) { EXPECT_THAT(Texts(CheckLayout(Repository())), IsEmpty()); }
TEST(RepositoryTest, IncludesFollowTheLayers) { EXPECT_THAT(Texts(CheckIncludeRules(Repository())), IsEmpty()); }
TEST(RepositoryTest, SystemHeadersStayInTheirFiles) { EXPECT_THAT(Texts(CheckSystemHeaders(Repository())), IsEmpty()); }
TEST(RepositoryTest, HeadersOfNamesAreIncluded) { EXPECT_THAT(Texts(CheckNames(Repository())), IsEmpty()); }
TEST(RepositoryTest, HeadersOfOurNamesAreIncluded) { EXPECT_THAT(Texts(CheckOwnNames(Repository())), IsEmpty()); }
TEST(RepositoryTest, LevelsHaveTheirOwnSources) { EXPECT_THAT(Texts(CheckLevelSources(Repository())), IsEmpty()); }
TEST(RepositoryTest, FunctionsAndFilesAreShort) { EXPECT_THAT(Texts(CheckSizes(Repository())), IsEmpty()); }
TEST(RepositoryTest, HasNoGlobalState) { EXPECT_THAT(Texts(CheckGlobalState(Repository())), IsEmpty()); }
TEST(RepositoryTest, TextsAreFinished) { EXPECT_THAT(Texts(CheckTexts(Repository())), IsEmpty()); }

TEST_F(PlantedTreeTest, AsPlantedKeepsEveryRule) {
  for (const Rule rule : {CheckLayout, CheckIncludeRules, CheckSystemHeaders, CheckNames, CheckOwnNames,
                          CheckLevelSources, CheckSizes, CheckGlobalState, CheckTexts}) {
    EXPECT_THAT(Check(rule), IsEmpty());
  }
}

TEST_F(PlantedTreeTest, OnlyTheTopHasBuildFolders) {
  for (const char* path : {"build/a.cc", "build-debug/a.cc", "runs/a.cc", "data/a.cc", ".cache/a.cc"}) {
    Plant(path, "#include \"relative.h\"\n");
  }
  EXPECT_THAT(Check(CheckIncludeRules), IsEmpty());
  for (const std::string path : {"kernels/build_tables/a.cc", "comm/data/a.cc", "comm/.hidden/a.cc"}) {
    Plant(path, "#include \"relative.h\"\n");
    EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr(path))) << path;
    fs::remove(root_ / path);
  }
}

TEST_F(PlantedTreeTest, InACheckoutGitSaysWhatIsPartOfTheTree) {
  const std::string bad = "#include \"relative.h\"\n";
  Plant(".gitignore", "scratch/\n");
  Plant("comm/README.md", "# comm\n");
  Plant("comm/deleted.cc", bad);
  Plant("build_tables/tracked.cc", bad);
  if (!Git("init -q") || !Git("add .")) GTEST_SKIP() << "no git";
  fs::remove(root_ / "comm/deleted.cc");
  Plant("comm/scratch/a.cc", bad);
  Plant("venv/lib/a.cc", bad);
  Plant("comm/un tracked.cc", bad);
  EXPECT_THAT(Check(CheckIncludeRules),
              ElementsAre(HasSubstr("build_tables/tracked.cc:1"), HasSubstr("comm/un tracked.cc:1")));
}

TEST_F(PlantedTreeTest, WhatGitCannotReadIsWalked) {
  Plant("comm/a.cc", "#include \"relative.h\"\n");
  Plant(".git", "gitdir: " + (root_ / "missing").string() + "\n");
  EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr("comm/a.cc:1")));
}

TEST_F(PlantedTreeTest, FilesOutsideTheLayersAreFound) {
  for (const char* path : {"cmake/version.cc.in", "cmake/tables.py", "launch/a.cc", "tests/new/a.cc",
                           "kernels/new/a.cc", "CMakeLists.txt", "docs/a.md", ".ci/a.py"}) {
    Plant(path, "");
  }
  EXPECT_THAT(Check(CheckLayout), IsEmpty());
  for (const std::string path :
       {"angel_ptm/new/a.cc", "angel_ptm/new/README.md", "angel_ptm/a.h", "angel_ptm/README.md", "tools/a.cc",
        "tools/a.py", "a.cc", "cmake/a.h", ".ci/a.cc", "angel_ptm/basement/a.h", "kernels2/a.cu"}) {
    Plant(path, "");
    EXPECT_THAT(Check(CheckLayout), ElementsAre(HasSubstr(path + ": its folder"))) << path;
    fs::remove(root_ / path);
  }
}

TEST_F(PlantedTreeTest, CppWithOtherExtensionsIsFound) {
  for (const std::string extension : {".hpp", ".inc", ".cpp", ".cxx", ".hh", ".ipp", ".c", ".H", ".CC", ".inl", ".tcc",
                                      ".cppm", ".def", ".cc.in", ".hpp.in"}) {
    const std::string path = "kernels/a" + extension;
    Plant(path, "");
    EXPECT_THAT(Check(CheckLayout), ElementsAre(HasSubstr(path + ": C++ and CUDA files end in"))) << extension;
    fs::remove(root_ / path);
  }
}

TEST_F(PlantedTreeTest, OnlyHeadersAreIncluded) {
  for (const std::string header : {"kernels/gemm.cc", "kernels/rows.txt", "cmake/version.cc.in"}) {
    Plant("launch/a.cc", "#include \"" + header + "\"\n");
    EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr("launch/a.cc:1: "))) << header;
  }
}

TEST_F(PlantedTreeTest, ForbiddenIncludesAreFound) {
  const struct {
    const char* path;
    const char* header;
  } cases[] = {{"angel_ptm/base/a.h", "angel_ptm/config/load.h"},
               {"angel_ptm/model/a.h", "kernels/kernels.h"},
               {"angel_ptm/model/a.cc", "kernels/cpu/gemm.h"},
               {"angel_ptm/plan/a.cc", "comm/communicator.h"},
               {"angel_ptm/plan/a.cc", "angel_ptm/memory/tier.h"},
               {"angel_ptm/exec/a.cc", "optim/adamw.h"},
               {"angel_ptm/checkpoint/a.cc", "angel_ptm/plan/planner.h"},
               {"angel_ptm/data/a.cc", "angel_ptm/model/graph.h"},
               {"angel_ptm/train/a.cc", "launch/main.h"},
               {"angel_ptm/train/a.cc", "angel_ptm/model/hunyuan_lm.h"},
               {"angel_ptm/train/a.cc", "angel_ptm/data/dataset.h"},
               {"kernels/cpu/a.cc", "angel_ptm/model/graph.h"},
               {"kernels/cuda/a.cu", "kernels/cpu/bf16.h"},
               {"kernels/cuda/a.cuh", "tests/cuda_emulation/emulator.h"},
               {"comm/a.cc", "kernels/kernels.h"},
               {"optim/a.cc", "angel_ptm/plan/plan.h"},
               {"tests/reference/a.cc", "kernels/kernels.h"},
               {"angel_ptm/exec/a.cc", "tests/support/ranks.h"}};
  for (const auto& [path, header] : cases) {
    Plant(path, "// A comment\n#include \"" + std::string(header) + "\"\n");
    EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr(std::string(path) + ":2: "))) << header;
    fs::remove(root_ / path);
  }
}

TEST_F(PlantedTreeTest, AllowedIncludesAreNot) {
  Plant("angel_ptm/checkpoint/a.cc", "#include \"angel_ptm/plan/shard.h\"\n#include \"comm/communicator.h\"\n");
  Plant("angel_ptm/train/a.cc", "#include \"optim/adamw.h\"\n#include \"angel_ptm/exec/executor.h\"\n");
  Plant("angel_ptm/model/ops/a.cc", "#include \"kernels/ops/a.h\"\n#include \"kernels/ops.def\"\n");
  Plant("launch/a.cc", "#include \"kernels/kernels.h\"\n// #include \"relative.h\"\n");
  EXPECT_THAT(Check(CheckIncludeRules), IsEmpty());
}

TEST_F(PlantedTreeTest, IncludesRelativeToTheFolderAreFound) {
  Plant("launch/a.cc", "#include \"flags.h\"\n");
  EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr("not a path from the root")));
}

TEST_F(PlantedTreeTest, IncludesThatHideTheirHeaderAreFound) {
  for (const char* bad :
       {"#include \"angel_ptm/base/../plan/plan.h\"", "#include <angel_ptm/base/../plan/plan.h>",
        "#include \"angel_ptm//plan/plan.h\"", "#include <angel_ptm//plan/plan.h>",
        "#include \"./angel_ptm/plan/plan.h\"", "#include <./angel_ptm/plan/plan.h>", "#include <../plan/plan.h>",
        "#include </opt/plan.h>", "#include \"google/../angel_ptm/plan/plan.h\"", "#include PLAN_HEADER",
        "#include HEADER(plan)", "#include \\\n\"angel_ptm/plan/plan.h\"", "#inc\\\nlude \"angel_ptm/plan/plan.h\"",
        "/* plan */ #include \"angel_ptm/plan/plan.h\"", "#include/**/\"angel_ptm/plan/plan.h\"",
        "#include_next \"angel_ptm/plan/plan.h\"", "#import <angel_ptm/plan/plan.h>",
        "%:include \"angel_ptm/plan/plan.h\""}) {
    Plant("angel_ptm/base/a.h", std::string(bad) + "\n");
    EXPECT_THAT(Check(CheckIncludeRules), ElementsAre(HasSubstr("angel_ptm/base/a.h:1: "))) << bad;
  }
  Plant("angel_ptm/base/a.h",
        "#include <sys/stat.h>  // not \"angel_ptm//plan/plan.h\"\n/*\n#include PLAN_HEADER\n*/\n#define A \\\n  3\n");
  EXPECT_THAT(Check(CheckIncludeRules), IsEmpty());
}

TEST_F(PlantedTreeTest, MachineHeadersAreFoundOutsideTheirFiles) {
  Plant("comm/mpi_node.cc", "#include <mpi.h>\n");
  Plant("kernels/cuda/gemm.cu", "#include <cuda_runtime.h>\n#include <cublas_v2.h>\n");
  Plant("comm/nccl.cc", "#include <nccl.h>\n");
  Plant("angel_ptm/memory/file_uring.cc", "#include <liburing.h>\n");
  Plant("angel_ptm/memory/a.cc", "#include <sys/types.h>\n#include <math.h>\n#include <linux/nvme_ioctl.h>\n");
  EXPECT_THAT(Check(CheckSystemHeaders), IsEmpty());
  for (const char* header : {"mpi.h",
                             "mpi-ext.h",
                             "openmpi/mpi.h",
                             "x86_64-linux-gnu/mpich/mpi.h",
                             "nccl.h",
                             "nccl_net.h",
                             "liburing.h",
                             "liburing/io_uring.h",
                             "linux/io_uring.h",
                             "cuda.h",
                             "cuda_runtime.h",
                             "cuda/std/atomic",
                             "cuda_bf16.hpp",
                             "cudnn.h",
                             "cublas_v2.h",
                             "cublasLt.h",
                             "cufft.h",
                             "curand_kernel.h",
                             "cusolverDn.h",
                             "cusparse.h",
                             "cuComplex.h",
                             "cupti.h",
                             "cufile.h",
                             "cub/cub.cuh",
                             "cute/tensor.hpp",
                             "cutlass/gemm.h",
                             "thrust/sort.h",
                             "nvml.h",
                             "nvrtc.h",
                             "nvJitLink.h",
                             "nvPTXCompiler.h",
                             "nvToolsExt.h",
                             "nvtx3/nvtx3.hpp",
                             "nv/target",
                             "mma.h",
                             "crt/mma.h",
                             "cooperative_groups/reduce.h",
                             "driver_types.h",
                             "vector_types.h",
                             "vector_functions.hpp",
                             "library_types.h",
                             "builtin_types.h",
                             "texture_types.h",
                             "surface_indirect_functions.h",
                             "math_constants.h",
                             "device_launch_parameters.h",
                             "device_atomic_functions.h",
                             "host_defines.h",
                             "channel_descriptor.h",
                             "sm_20_intrinsics.h",
                             "npp.h"}) {
    Plant("angel_ptm/memory/tier.cc", "#include <" + std::string(header) + ">\n");
    EXPECT_THAT(Check(CheckSystemHeaders), ElementsAre(HasSubstr("tier.cc:1: <" + std::string(header)))) << header;
  }
}

TEST_F(PlantedTreeTest, OnlyWholeWordsNameAFileForAMachineHeader) {
  for (const char* path : {"comm/mpi.cc", "comm/node_mpi.h", "comm/node.mpi-2.cc", "comm/mpi/node.cc", "mpi/node.cc"}) {
    Plant(path, "#include <mpi.h>\n");
    EXPECT_THAT(Check(CheckSystemHeaders), IsEmpty()) << path;
    fs::remove(root_ / path);
  }
  const struct {
    std::string path;
    std::string header;
  } cases[] = {{"angel_ptm/plan/compiler.cc", "mpi.h"},
               {"angel_ptm/plan/measuring.cc", "liburing.h"},
               {"angel_ptm/plan/barracuda.cc", "cuda.h"},
               {"comm/mpi_calls/node.cc", "mpi.h"},
               {"comm/mpi/node.cc", "nccl.h"},
               {"kernels/cuda_gemm/gemm.cu", "cuda.h"}};
  for (const auto& [path, header] : cases) {
    Plant(path, "#include <" + header + ">\n");
    EXPECT_THAT(Check(CheckSystemHeaders), ElementsAre(HasSubstr(path + ":1: <" + header))) << path;
    fs::remove(root_ / path);
  }
}

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST_F(PlantedTreeTest, LongFunctionsAreFound) {
  const std::string body_at_limit = Repeat("  f({1, 2});\n", kFunctionLinesMax - 2);
  Plant("comm/a.cc", "namespace a {\nclass B {\n  void C() const {\n" + body_at_limit + "  }\n};\n}\n");
  EXPECT_THAT(Check(CheckSizes), IsEmpty());
  const char* const heads[] = {"void F(int a = {}) {\n",
                               "B::B(int a) : a_{a}, b_(1) {\n",
                               "B::B(std::vector<int> a)\n    : a_(a), b_{std::move(a)} {\n",
                               "template <typename T, int N = 3>\nstd::vector<T> F(T a) noexcept {\n",
                               "bool operator==(const B& b) {\n",
                               "auto F() -> struct B {\n",
                               "alignas(64) void F(std::function<void(int)> f) {\n",
                               "__attribute__((noinline)) void F(int n, void (*body)(const void*)) {\n",
                               "int operator[](int i) const { return 1; }\nvoid F() {\n",
                               "TEST(Suite, Name) {\n",
                               "const auto kF = [](int a) {\n",
                               "extern \"C\" {\nvoid F() {\n"};
  for (const std::string head : heads) {
    Plant("comm/a.cc", "namespace {\n" + head + body_at_limit + "\n}\n");
    EXPECT_THAT(Check(CheckSizes), ElementsAre(HasSubstr("function of 71 lines"))) << head;
  }
}

TEST_F(PlantedTreeTest, WhatIsNoFunctionMayBeLong) {
  const std::string lines = Repeat("  {\"a\", 1},\n", 100);
  Plant("comm/a.cc", "constexpr Row kTable[] = {\n" + lines + "};\nclass B {\n" + Repeat("  int a();\n", 100) +
                         "};\nenum class C {\n" + Repeat("  kD,\n", 100) + "};\n");
  EXPECT_THAT(Check(CheckSizes), IsEmpty());
}

TEST_F(PlantedTreeTest, CudaFunctionsMayBeLonger) {
  const std::string head = "__global__ void __launch_bounds__(256) K(float* y) {\n";
  Plant("kernels/cuda/a.cu", head + Repeat("  f();\n", kCudaFunctionLinesMax - 2) + "}\n");
  EXPECT_THAT(Check(CheckSizes), IsEmpty());
  Plant("kernels/cuda/a.cu", head + Repeat("  f();\n", kCudaFunctionLinesMax - 1) + "}\n");
  EXPECT_THAT(Check(CheckSizes), ElementsAre(HasSubstr("function of 121 lines")));
}

TEST_F(PlantedTreeTest, LongFilesAreFoundUnlessGenerated) {
  Plant("comm/a.cc", Repeat("int F();\n", kFileLinesMax + 1));
  EXPECT_THAT(Check(CheckSizes), ElementsAre("comm/a.cc: 501 lines, at most 500"));
  Plant("comm/a.cc", "// Generated by comm/tables.py\n" + Repeat("int F();\n", kFileLinesMax + 1));
  EXPECT_THAT(Check(CheckSizes), IsEmpty());
}

TEST_F(PlantedTreeTest, UnfinishedTextsAreFound) {
  const std::string note = std::string("TO") + "DO";
  const std::string path = std::string("/ro") + "ot/project/file";
  Plant("comm/README.md", "# comm\n");
  Plant("comm/a.cc", "// " + note + ": later\n");
  EXPECT_THAT(Check(CheckTexts), ElementsAre(HasSubstr("comm/a.cc:1: a note")));
  Plant("comm/a.cc", "const char* kPath = \"" + path + "\";\n// See https://example.org" + path + "\n");
  EXPECT_THAT(Check(CheckTexts), ElementsAre(HasSubstr("comm/a.cc:1: a path of one machine")));
  Plant("comm/a.cc", "// cat \"$work\"" + path + "\n");
  EXPECT_THAT(Check(CheckTexts), IsEmpty());
}

TEST_F(PlantedTreeTest, FoldersWithoutOrWithLongReadmeAreFound) {
  Plant("comm/a.cc", "int F();\n");
  EXPECT_THAT(Check(CheckTexts), ElementsAre(HasSubstr("comm: has no README.md")));
  Plant("comm/README.md", Repeat("line\n", kReadmeLinesMax));
  EXPECT_THAT(Check(CheckTexts), IsEmpty());
  Plant("kernels/cpu/a.cc", "int F();\n");
  EXPECT_THAT(Check(CheckTexts), ElementsAre(HasSubstr("kernels/cpu: has no README.md")));
  Plant("kernels/README.md", "* `cpu/` host kernels\n");
  EXPECT_THAT(Check(CheckTexts), IsEmpty());
  Plant("comm/README.md", Repeat("line\n", kReadmeLinesMax + 1));
  EXPECT_THAT(Check(CheckTexts), ElementsAre("comm/README.md: 31 lines, at most 30"));
}

TEST(BlankTest, LeavesCodeAndLineBreaks) {
  EXPECT_EQ(BlankCommentsAndStrings("a; // b\nc \"d\\\"e\" f"), "a;     \nc \"    \" f");
  EXPECT_EQ(BlankCommentsAndStrings("a /* b\nc */ d"), "a     \n     d");
  EXPECT_EQ(BlankCommentsAndStrings("R\"x({)\" }\n)x\" 1'000 '{'"), "R\"x(     \n)x\" 1'000 ' '");
}

TEST_F(PlantedTreeTest, NamesWithoutTheirHeadersAreFound) {
  const std::string function = "std::vector<int> Sorted();\n";
  Plant("comm/a.h", "#include <vector>\n" + function);
  Plant("comm/b.h", "#include \"comm/a.h\"\n");
  for (const std::string& text :
       {"#include <vector>\n" + function, "#include \"comm/b.h\"\n" + function,
        std::string("#include <cstdio>\n#include \"absl/strings/str_cat.h\"\nauto a = absl::StrCat(std::size_t{1});\n"),
        std::string("// std::vector\nconst char* a = \"std::vector\";\nint b = other::std::vector();\n"),
        std::string("#include <gmock/gmock.h>\nTEST(A, B) { EXPECT_EQ(1, 1); }\n")}) {
    Plant("comm/c.cc", text);
    EXPECT_THAT(Check(CheckNames), IsEmpty()) << text;
  }
  const std::pair<std::string, std::string> faults[] = {
      {function, "std::vector wants an include of <vector>"},
      {"#include <map>\nint64_t A();\n", "int64_t wants an include of <cstdint>"},
      {"#include <string>\nauto a = absl::StrCat(1);\n", "absl::StrCat wants an include of <absl/strings/str_cat.h>"},
      {"nlohmann::json A();\n", "nlohmann:: wants an include of <nlohmann/json"},
      {"#include <gtest/gtest.h>\nTEST(A, B) { EXPECT_THAT(1, 1); }\n",
       "EXPECT_THAT wants an include of <gmock/gmock.h>"},
      {"#include <vector>\nstd::viktor A();\n", "std::viktor is in no row of"}};
  for (const auto& [text, finding] : faults) {
    Plant("comm/c.cc", text);
    EXPECT_THAT(Check(CheckNames), ElementsAre(AllOf(HasSubstr("comm/c.cc:"), HasSubstr(finding)))) << text;
  }
}

TEST_F(PlantedTreeTest, HeadersOfOurNamesAreIncluded) {
  Plant("comm/a.h", "struct Verdict {\n};\nint Judge(int a);\n#define CALL_OR_END(a) a\nclass Elsewhere;\n");
  Plant("comm/b.h", "#include \"comm/a.h\"\n");
  for (const std::string& text :
       {std::string("#include \"comm/b.h\"\nint A() { return Judge(1); }\n"),
        std::string("// Judge\nint A() { return b.Judge(1) + c->Judge(2) + other::Judge(3); }\n"),
        std::string("class Verdict;\nint A(const Verdict& verdict);\nElsewhere* b;\n"),
        std::string("int A() {\n  const auto Judge = [](int a) {};\n  return Judge(1);\n}\n")}) {
    Plant("comm/c.cc", text);
    EXPECT_THAT(Check(CheckOwnNames), IsEmpty()) << text;
  }
  const std::pair<std::string, std::string> faults[] = {{"int A() { return Judge(1); }\n", "c.cc:1: Judge"},
                                                        {"\nVerdict A();\n", "c.cc:2: Verdict"},
                                                        {"void A() { CALL_OR_END(1); }\n", "c.cc:1: CALL_OR_END"}};
  for (const auto& [text, finding] : faults) {
    Plant("comm/c.cc", text);
    EXPECT_THAT(Check(CheckOwnNames), ElementsAre(HasSubstr(finding + " wants an include of \"comm/a.h\""))) << text;
  }
}

TEST_F(PlantedTreeTest, SourcesOfOneLevelAreListed) {
  Plant("kernels/CMakeLists.txt", "set(level_sources\n  cpu/a.cc cpu/b.cc)\n");
  Plant("kernels/cpu/tiles.h", "#ifdef __AMX_BF16__\n#endif\n");
  Plant("kernels/cpu/a.cc", "#include \"kernels/cpu/tiles.h\"\n");
  Plant("kernels/cpu/b.cc", "#if defined(__AVX512BF16__)\n#endif\n");
  Plant("kernels/cpu/c.cc", "// Not on __AMX_BF16__.\n#ifdef __AVX512F__\n#endif\n");
  EXPECT_THAT(Check(CheckLevelSources), IsEmpty());
  Plant("kernels/cpu/d.h", "#include \"kernels/cpu/tiles.h\"\n");
  Plant("kernels/cpu/d.cc", "#include \"kernels/cpu/d.h\"\n");
  Plant("kernels/cpu/b.cc", "int B();\n");
  EXPECT_THAT(Check(CheckLevelSources),
              ElementsAre(HasSubstr("kernels/cpu/b.cc: is in level_sources"),
                          HasSubstr("kernels/cpu/d.cc: kernels/cpu/tiles.h looks for what one level has")));
}

}  // namespace
}  // namespace angel_ptm::tree
