#include "launch/machine_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "launch/control_group.h"

namespace angel_ptm {
namespace {

constexpr int64_t kRankBytes = int64_t{16} << 20, kThreadBytes = int64_t{2} << 20;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The number in a file; no limit if the file does not exist or says "max".
int64_t LimitIn(const std::string& path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : kNoLimit;
}

// Resident memory of the process: the program, its libraries and its allocations.
int64_t ResidentBytes() {
  int64_t total_pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

}  // namespace

int64_t ControlGroupMemoryLimit(const std::string& membership, const std::string& root) {
  int64_t least = kNoLimit;
  for (const ControlGroup& group : ControlGroups(membership, root, "memory")) {
    least = std::min(least, LimitIn(group.folder + (group.version == 2 ? "/memory.max" : "/memory.limit_in_bytes")));
  }
  return least;
}

int64_t MachineMemoryBytes() {
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return std::min(machine, ControlGroupMemoryLimit(ControlGroupMembership(), "/sys/fs/cgroup"));
}

int64_t OwnBytes(int processes, int ranks, int threads_per_rank) {
  return processes * ResidentBytes() + ranks * (kRankBytes + threads_per_rank * kThreadBytes);
}

}  // namespace angel_ptm
