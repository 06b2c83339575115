// How much memory a run on this machine may use.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_
#define ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

// Bytes: the machine's memory, or less where a control group of this process (a container's, a batch system's) says so.
int64_t MachineMemoryBytes();

// Bytes that processes with ranks take besides the tiers, as far as is known at the start: what this process has now,
// for each of `processes`, and for each rank 16 MiB (stacks, tables, buffers of messages and files) and 2 MiB per
// thread (what matrix products pack).
int64_t OwnBytes(int processes, int ranks, int threads_per_rank);

// The smallest memory limit of the control groups that `membership` names and of those above them; INT64_MAX if none is
// limited. membership: the text of /proc/self/cgroup; root: where the control groups are mounted, /sys/fs/cgroup.
// Versions 1 and 2. Inside a container the path of its own group is often not visible, but its limit stands at the
// root.
int64_t ControlGroupMemoryLimit(const std::string& membership, const std::string& root);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_
