// The control groups of this process.
#ifndef ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_
#define ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_

#include <string>
#include <vector>

namespace angel_ptm {

// The content of /proc/self/cgroup.
std::string ControlGroupMembership();

// A folder with limits, and the version of its files.
struct ControlGroup {
  std::string folder;
  int version = 0;
};

// The groups that `membership` names, and their parents up to the roots, as far as they have `controller` ("memory",
// "cpu"). root: where control groups are mounted, /sys/fs/cgroup. Inside a container the path of its own group is often
// not visible, but its limits are at the root.
std::vector<ControlGroup> ControlGroups(const std::string& membership, const std::string& root,
                                        const std::string& controller);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_
