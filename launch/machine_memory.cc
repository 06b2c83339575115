#include "launch/machine_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

#include "absl/strings/str_split.h"

namespace angel_ptm {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The number in a file; no limit if there is no such file or it says "max".
int64_t LimitIn(const std::string& path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : kNoLimit;
}

// The smallest limit of `group` and the groups above it, up to the root itself.
int64_t SmallestLimit(const std::string& root, std::string group, const std::string& file) {
  int64_t least = kNoLimit;
  for (;;) {
    while (!group.empty() && group.back() == '/') group.pop_back();
    least = std::min(least, LimitIn(root + group + "/" + file));
    if (group.empty()) return least;
    group.erase(group.rfind('/'));
  }
}

}  // namespace

int64_t ControlGroupMemoryLimit(const std::string& membership, const std::string& root) {
  int64_t least = kNoLimit;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy:controllers:group; version 2 has hierarchy 0 and no controllers.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || parts[2].empty() || parts[2][0] != '/') continue;
    if (parts[1].empty()) {
      least = std::min(least, SmallestLimit(root, parts[2], "memory.max"));
      continue;
    }
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") == controllers.end()) continue;
    least = std::min(least, SmallestLimit(root + "/memory", parts[2], "memory.limit_in_bytes"));
  }
  return least;
}

int64_t MachineMemoryBytes() {
  std::ostringstream membership;
  membership << std::ifstream("/proc/self/cgroup").rdbuf();
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return std::min(machine, ControlGroupMemoryLimit(membership.str(), "/sys/fs/cgroup"));
}

}  // namespace angel_ptm
