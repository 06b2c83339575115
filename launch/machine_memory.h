// How much memory a run on this machine may use.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_
#define ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

// Bytes of the machine's memory, or fewer if a control group of this process (of a container or batch system) says so.
int64_t MachineMemoryBytes();

// Bytes that processes with ranks take besides the tiers, as far as known at the start: for each of `processes` what
// this process has now, and for each rank 16 MiB (stacks, tables, buffers of messages and files) and 2 MiB per thread
// (packing of matrix products).
int64_t OwnBytes(int processes, int ranks, int threads_per_rank);

// The smallest memory limit of the control groups that `membership` names and their parents; INT64_MAX if none is
// limited. membership: the content of /proc/self/cgroup; root: where control groups are mounted, /sys/fs/cgroup.
// Supports versions 1 and 2. Inside a container the path of its own group is often not visible, but its limit is at the
// root.
int64_t ControlGroupMemoryLimit(const std::string& membership, const std::string& root);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_MEMORY_H_
