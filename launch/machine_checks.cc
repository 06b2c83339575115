#include "launch/machine_checks.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/file_store.h"
#include "launch/machine_cores.h"
#include "launch/machine_memory.h"
#include "launch/process.h"

namespace angel_ptm {
namespace {

using Verdict = MachineCheck::Verdict;

MachineCheck Memory() {
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE), usable = MachineMemoryBytes();
  if (usable == machine)
    return {Verdict::kOk, absl::StrCat("memory: ", FormatBytes(machine), ", not limited by a control group")};
  return {Verdict::kNote, absl::StrCat("memory: a control group allows ", FormatBytes(usable), " of the machine's ",
                                       FormatBytes(machine))};
}

MachineCheck Cores(const MachineUse& use) {
  const int64_t machine = sysconf(_SC_NPROCESSORS_ONLN);
  const std::string text = absl::StrCat("cores: ", use.cores, " of the machine's ", machine, " for ",
                                        Counted(use.ranks, "rank"), " of ", Counted(use.threads, "thread"));
  if (use.ranks * use.threads > use.cores)
    return {Verdict::kNote, text + "; more threads than cores, so they take turns"};
  if (use.cores < machine) return {Verdict::kNote, text + " (affinity or a control group's quota)"};
  return {Verdict::kOk, text};
}

MachineCheck Threads(int ranks, int threads) {
  const absl::Status status = CheckThreads(ranks * threads, ranks * kOtherThreads);
  if (!status.ok()) return {Verdict::kBad, absl::StrCat("threads: ", std::string(status.message()))};
  return {Verdict::kOk, absl::StrCat("threads: ", ranks * (threads + kOtherThreads), " can be started")};
}

MachineCheck LockedMemory() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return {Verdict::kOk, "locked memory: not limited"};
  }
  return {Verdict::kNote,
          absl::StrCat("locked memory: limited to ", FormatBytes(static_cast<int64_t>(limit.rlim_cur)),
                       "; a larger host tier cannot be registered with io_uring, which makes file transfers slower "
                       "(ulimit -l, /etc/security/limits.conf)")};
}

MachineCheck HugePages() {
  std::string text;
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::getline(file, text);
  if (text.find("[never]") != std::string::npos) {
    return {Verdict::kNote, "huge pages: never; copies of large arenas are slower with small pages"};
  }
  return {Verdict::kOk, absl::StrCat("huge pages: ", text.empty() ? "unknown" : text)};
}

MachineCheck Load() {
  double load = 0;
  if (getloadavg(&load, 1) != 1) return {Verdict::kNote, "load: unknown"};
  const std::string text = absl::StrFormat("load: %.2f", load);
  if (load < 0.3) return {Verdict::kOk, text};
  return {Verdict::kNote, text + "; other programs may be using the machine, which lowers the measured rates"};
}

MachineCheck Mpi() {
#ifdef ANGEL_PTM_WITH_MPI
  return {Verdict::kOk, "MPI: built in"};
#else
  return {Verdict::kNote, "MPI: not in this build; ranks are threads of one process"};
#endif
}

MachineCheck Directory(const std::string& directory, bool allow_buffered) {
  constexpr int64_t kBytes = int64_t{4} << 20, kBlock = 4096;
  const auto store = FileStore::Create({.directory = directory,
                                        .name = "a page file to try",
                                        .bytes = kBytes,
                                        .block_bytes = kBlock,
                                        .allow_buffered = allow_buffered});
  if (!store.ok()) return {Verdict::kBad, absl::StrCat("files: ", std::string(store.status().message()))};
  const std::string how = (*store)->description();
  const bool best = how.find("direct") != std::string::npos && how.find("uring") != std::string::npos;
  return {best ? Verdict::kOk : Verdict::kNote, absl::StrCat("files in ", directory, ": ", how)};
}

}  // namespace

std::vector<MachineCheck> CheckMachine(const MachineUse& use, const std::string& directory, bool allow_buffered) {
  std::vector<MachineCheck> checks = {
      Memory(), Cores(use), Threads(use.ranks, use.threads), LockedMemory(), HugePages(), Load(), Mpi()};
  if (!directory.empty()) checks.push_back(Directory(directory, allow_buffered));
  return checks;
}

std::string ToText(const MachineCheck& check) {
  constexpr const char* kVerdicts[] = {"ok    ", "note  ", "bad   "};
  return absl::StrCat(kVerdicts[static_cast<int>(check.verdict)], check.text);
}

}  // namespace angel_ptm
