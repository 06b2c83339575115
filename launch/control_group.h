// The control groups of a process.
#ifndef ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_
#define ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_

#include <string>
#include <vector>

namespace angel_ptm {

// The text of /proc/self/cgroup.
std::string ControlGroupMembership();

// A folder of limits and the version of its files.
struct ControlGroup {
  std::string folder;
  int version = 0;
};

// The groups that `membership` names, and those above them up to the roots, which have `controller` ("memory", "cpu").
// root: where the control groups are mounted, /sys/fs/cgroup. Inside a container the path of its own group is often not
// visible, but its limits stand at the root.
std::vector<ControlGroup> ControlGroups(const std::string& membership, const std::string& root,
                                        const std::string& controller);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_CONTROL_GROUP_H_
