// The main function of the host backend's tests. `--isa=<level>` tests that level (exit code 77 if this machine does
// not run it); otherwise the tests use the default level of CpuKernels(). `--no-default` skips that level.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "kernels/cpu/cpu_isa.h"

namespace angel_ptm {
namespace {

const CpuIsa*& TestedIsa() {
  static const CpuIsa* isa = RunnableCpuIsas().back();
  return isa;
}

// Returns false if this machine does not run the level or no level has that name.
bool Choose(std::string_view name) {
  for (const CpuIsa* const isa : RunnableCpuIsas()) {
    if (name != isa->name) continue;
    TestedIsa() = isa;
    return true;
  }
  return false;
}

}  // namespace

// Overrides the library's definition, whose object file is then not linked.
const KernelTable& CpuKernels() { return TestedIsa()->kernels(); }

}  // namespace angel_ptm

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kFlag = "--isa=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--no-default" && angel_ptm::TestedIsa() == angel_ptm::RunnableCpuIsas().back()) {
      std::printf("skipped: this level is the default\n");
      return 77;
    }
    if (!word.starts_with(kFlag)) continue;
    if (!angel_ptm::Choose(word.substr(kFlag.size()))) {
      std::printf("skipped: this machine does not run %s\n", std::string(word.substr(kFlag.size())).c_str());
      return 77;
    }
  }
  std::printf("level: %s\n", angel_ptm::TestedIsa()->name);
  return RUN_ALL_TESTS();
}
