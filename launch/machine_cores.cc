#include "launch/machine_cores.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/text.h"
#include "launch/control_group.h"

namespace angel_ptm {
namespace {

constexpr char kControlGroupRoot[] = "/sys/fs/cgroup";
constexpr double kNoQuota = std::numeric_limits<double>::infinity();

double QuotaOf(const ControlGroup& group) {
  double quota = 0, period = 0;
  if (group.version == 2) {  // "50000 100000", or "max 100000"
    std::ifstream file(group.folder + "/cpu.max");
    if (!(file >> quota >> period)) return kNoQuota;
  } else {  // -1 means none
    std::ifstream quota_file(group.folder + "/cpu.cfs_quota_us"), period_file(group.folder + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return kNoQuota;
  }
  return quota > 0 && period > 0 ? quota / period : kNoQuota;
}

// The variables in which launchers name a process's job: PMIx of Open MPI and Slurm, PMI of Slurm.
constexpr const char* kJobNames[] = {"PMIX_NAMESPACE", "PMI_JOBID"};

bool IsOfJob(const std::string& process, const std::string& job, const std::string& program) {
  char target[4096];
  const ssize_t length = readlink(absl::StrCat("/proc/", process, "/exe").c_str(), target, sizeof(target));
  if (length < 0 || program != std::string(target, static_cast<size_t>(length))) return false;
  std::ifstream file(absl::StrCat("/proc/", process, "/environ"), std::ios::binary);
  const std::string environment((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<std::string> entries = absl::StrSplit(environment, '\0');
  return std::find(entries.begin(), entries.end(), job) != entries.end();
}

cpu_set_t MaskOf(pid_t process) {
  cpu_set_t mask;
  if (sched_getaffinity(process, sizeof(mask), &mask) != 0) CPU_ZERO(&mask);
  return mask;
}

}  // namespace

double ControlGroupCores(const std::string& membership, const std::string& root) {
  double least = kNoQuota;
  for (const ControlGroup& group : ControlGroups(membership, root, "cpu")) least = std::min(least, QuotaOf(group));
  return least;
}

int ThreadsForQuota(double cores) { return std::max(1, static_cast<int>(std::lround(std::min(cores, 65536.0)))); }

int UsableCores() {
  const cpu_set_t mask = MaskOf(0);
  const int cores = std::max(1, CPU_COUNT(&mask));
  return std::min(cores, ThreadsForQuota(ControlGroupCores(ControlGroupMembership(), kControlGroupRoot)));
}

std::vector<cpu_set_t> MasksOfJob() {
  std::string job;
  for (const char* name : kJobNames) {
    const char* const value = std::getenv(name);
    if (value != nullptr && job.empty()) job = absl::StrCat(name, "=", value);
  }
  char program[4096];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof(program));
  std::vector<cpu_set_t> masks;
  const std::unique_ptr<DIR, int (*)(DIR*)> processes(job.empty() || length < 0 ? nullptr : opendir("/proc"),
                                                      &closedir);
  while (const dirent* const entry = processes == nullptr ? nullptr : readdir(processes.get())) {
    pid_t process = 0;
    if (!absl::SimpleAtoi(entry->d_name, &process)) continue;
    if (IsOfJob(entry->d_name, job, std::string(program, static_cast<size_t>(length))))
      masks.push_back(MaskOf(process));
  }
  if (masks.empty()) masks.push_back(MaskOf(0));
  return masks;
}

int ShareOfCores(const cpu_set_t& own, std::span<const cpu_set_t> masks) {
  double share = 0;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &own)) continue;
    const auto users =
        std::count_if(masks.begin(), masks.end(), [core](const cpu_set_t& mask) { return CPU_ISSET(core, &mask); });
    share += 1.0 / static_cast<double>(std::max<std::ptrdiff_t>(users, 1));
  }
  return std::max(1, static_cast<int>(share + 1e-9));  // a third of each of three cores is one core
}

int CoresOfRank(int local_ranks) {
  const std::vector<cpu_set_t> masks = MasksOfJob();
  if (masks.size() != static_cast<size_t>(local_ranks)) return 0;
  const int quota = ThreadsForQuota(ControlGroupCores(ControlGroupMembership(), kControlGroupRoot));
  return std::min(ShareOfCores(MaskOf(0), masks), std::max(1, quota / local_ranks));
}

std::string IdleCoresWarning(int local_ranks, int threads_per_rank, int kernel_threads_max) {
  const cpu_set_t own = MaskOf(0), launcher = MaskOf(getppid());
  const int quota = ThreadsForQuota(ControlGroupCores(ControlGroupMembership(), kControlGroupRoot));
  const int cores = std::min(std::max(CPU_COUNT(&own), CPU_COUNT(&launcher)), quota);
  const int used = local_ranks * threads_per_rank;
  if (cores - used < local_ranks) return "";
  const std::string reason =
      threads_per_rank == kernel_threads_max
          ? absl::StrCat("the matrix library was built for ", Counted(kernel_threads_max, "thread"),
                         " per rank; start more ranks on the machine")
          : absl::StrCat("the launcher binds this rank to ", CPU_COUNT(&own), "; start with mpirun --bind-to none");
  return absl::StrCat("warning: ", Counted(local_ranks, "rank"), " x ", Counted(threads_per_rank, "thread"), " leave ",
                      cores - used, " of ", cores, " cores idle: ", reason);
}

}  // namespace angel_ptm
