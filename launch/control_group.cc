#include "launch/control_group.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_split.h"

namespace angel_ptm {
namespace {

void AppendUpToRoot(const std::string& root, std::string group, int version, std::vector<ControlGroup>* groups) {
  for (;;) {
    while (!group.empty() && group.back() == '/') group.pop_back();
    groups->push_back({root + group, version});
    if (group.empty()) return;
    group.erase(group.rfind('/'));
  }
}

}  // namespace

std::string ControlGroupMembership() {
  std::ostringstream membership;
  membership << std::ifstream("/proc/self/cgroup").rdbuf();
  return membership.str();
}

std::vector<ControlGroup> ControlGroups(const std::string& membership, const std::string& root,
                                        const std::string& controller) {
  std::vector<ControlGroup> groups;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy:controllers:group; version 2 has hierarchy 0 and no controllers.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || parts[2].empty() || parts[2][0] != '/') continue;
    if (parts[1].empty()) AppendUpToRoot(root, parts[2], 2, &groups);
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), controller) == controllers.end()) continue;
    AppendUpToRoot(root + "/" + controller, parts[2], 1, &groups);
  }
  return groups;
}

}  // namespace angel_ptm
