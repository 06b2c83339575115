// cuda_resources_test <folder of *.ptxas> <budget.txt> [--print]
#include <cxxabi.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

struct Use {
  int registers = 0, local_bytes = 0;
};
using Uses = std::map<std::string, Use>;  // by "sm_90a Swiglu<8, float>"

// The kernel's name as in the source: without namespaces, parameters and what the compiler adds.
std::string KernelName(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                         &std::free);
  std::string name = text == nullptr ? symbol : text.get();
  for (const char* scope : {"(anonymous namespace)::", "angel_ptm::cuda::", "angel_ptm::", "void "}) {
    for (std::size_t at; (at = name.find(scope)) != std::string::npos;) name.erase(at, std::string(scope).size());
  }
  return name.substr(0, name.find('('));
}

std::vector<std::string> LinesOf(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Adds the resources that one log states; remarks go to `remarks`.
void ReadLog(const std::filesystem::path& path, Uses& uses, std::vector<std::string>& remarks) {
  static const std::regex entry("Compiling entry function '([^']+)' for '([^']+)'");
  static const std::regex local("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
  static const std::regex registers("Used ([0-9]+) registers");
  static const std::regex remark("C75[0-9][0-9]|ignored|serializ");
  Use* use = nullptr;
  for (const std::string& line : LinesOf(path)) {
    std::smatch match;
    if (std::regex_search(line, match, entry)) use = &uses[absl::StrCat(match[2].str(), " ", KernelName(match[1]))];
    if (std::regex_search(line, remark)) remarks.push_back(absl::StrCat(path.filename().string(), ": ", line));
    if (use == nullptr) continue;
    if (std::regex_search(line, match, local)) {
      use->local_bytes = std::stoi(match[1]) + std::stoi(match[2]) + std::stoi(match[3]);
    }
    if (std::regex_search(line, match, registers)) use->registers = std::stoi(match[1]);
  }
}

class ResourcesTest : public testing::Test {
 public:
  static std::string logs, budget;

 protected:
  ResourcesTest() {
    for (const auto& file : std::filesystem::directory_iterator(logs)) {
      if (file.path().extension() == ".ptxas") ReadLog(file.path(), uses_, remarks_);
    }
  }
  // Rows "<registers> <local bytes> <architecture and kernel>"; "#" begins a comment.
  Uses Budget() const {
    static const std::regex row(" *([0-9]+) +([0-9]+) +(.+)");
    Uses rows;
    for (const std::string& line : LinesOf(budget)) {
      std::smatch match;
      if (line.empty() || line[0] == '#') continue;
      EXPECT_TRUE(std::regex_match(line, match, row)) << line;
      if (!match.empty()) rows[match[3]] = {std::stoi(match[1]), std::stoi(match[2])};
    }
    return rows;
  }

  Uses uses_;
  std::vector<std::string> remarks_;
};
std::string ResourcesTest::logs, ResourcesTest::budget;

TEST_F(ResourcesTest, EveryKernelKeepsItsBudget) {
  const Uses rows = Budget();
  ASSERT_FALSE(uses_.empty()) << "no logs in " << logs;
  for (const auto& [kernel, use] : uses_) {
    const auto row = rows.find(kernel);
    if (row == rows.end()) {
      ADD_FAILURE() << "no row for " << kernel << ", which uses " << use.registers << " registers and has "
                    << use.local_bytes << " bytes in local memory";
      continue;
    }
    EXPECT_LE(use.registers, row->second.registers) << "registers of " << kernel;
    EXPECT_LE(use.local_bytes, row->second.local_bytes) << "bytes in local memory of " << kernel;
  }
  for (const auto& [kernel, row] : rows) EXPECT_TRUE(uses_.contains(kernel)) << "no kernel for the row " << kernel;
}

TEST_F(ResourcesTest, PtxasChangedNothing) { EXPECT_THAT(remarks_, testing::IsEmpty()); }

void PrintTable(const std::string& folder) {
  Uses uses;
  std::vector<std::string> remarks;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() == ".ptxas") ReadLog(file.path(), uses, remarks);
  }
  for (const auto& [kernel, use] : uses) std::printf("%3d %4d %s\n", use.registers, use.local_bytes, kernel.c_str());
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc < 3) {
    std::fprintf(stderr, "cuda_resources_test <folder of *.ptxas> <budget.txt> [--print]\n");
    return 2;
  }
  if (argc > 3) {
    angel_ptm::PrintTable(argv[1]);
    return 0;
  }
  angel_ptm::ResourcesTest::logs = argv[1];
  angel_ptm::ResourcesTest::budget = argv[2];
  return RUN_ALL_TESTS();
}
