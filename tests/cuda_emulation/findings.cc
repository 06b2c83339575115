#include "tests/cuda_emulation/findings.h"

#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"

namespace angel_ptm::emulated {
namespace {

constexpr int kFindingsOfAFault = 3, kReportsMax = 50000;

// The offset that the loader added to the program file's addresses.
std::uintptr_t LoadOffset() {
  std::uintptr_t offset = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uintptr_t*>(out) = info->dlpi_addr;
        return 1;  // the program is the first
      },
      &offset);
  return offset;
}

// "file.cu:12 < file.cu:40": innermost inlined function first. Empty without addr2line.
std::string SourceLines(const void* at) {
  const std::uintptr_t call = reinterpret_cast<std::uintptr_t>(at) - LoadOffset() - 1;
  const std::string command =
      absl::StrCat("addr2line -s -i -e /proc/", getpid(), "/exe 0x", absl::Hex(call), " 2>/dev/null");
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string lines;
  char buffer[256];
  while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) {
    std::string line = buffer;
    line.resize(line.find_first_of(" \n"));
    absl::StrAppend(&lines, lines.empty() ? "" : " < ", line);
  }
  pclose(pipe);
  return lines;
}

}  // namespace

const char* Name(Fault fault) {
  constexpr const char* kNames[kFaults] = {
      "race",     "cross-block", "out-of-bounds", "uninitialised", "alignment", "barrier",   "warp",    "deadlock",
      "cp.async", "mbarrier",    "proxy",         "tensor-copy",   "wgmma",     "registers", "cluster", "launch"};
  return kNames[static_cast<int>(fault)];
}

std::string Finding::Describe() const {
  return absl::StrCat("[", Name(fault), "] ", text, at == nullptr ? "" : absl::StrCat(" at ", SourceLines(at)));
}

bool Findings::Add(Finding finding) {
  const bool known = std::any_of(all_.begin(), all_.end(), [&](const Finding& other) {
    return other.fault == finding.fault && other.at != nullptr && other.at == finding.at;
  });
  if (!known && count_[static_cast<std::size_t>(finding.fault)]++ < kFindingsOfAFault)
    all_.push_back(std::move(finding));
  return ++total_ < kReportsMax;
}

}  // namespace angel_ptm::emulated
