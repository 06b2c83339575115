// How many threads are of use to a run on this machine.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_CORES_H_
#define ANGEL_PTM_LAUNCH_MACHINE_CORES_H_

#include <sched.h>

#include <span>
#include <string>
#include <vector>

namespace angel_ptm {

// Cores that this process may use: those of its affinity mask, or less where a control group's quota says so; at
// least 1.
int UsableCores();

// The smallest quota of processor time of the control groups that `membership` names and of those above them, in cores;
// infinite if none is limited. membership and root as in machine_memory.h. Versions 1 and 2.
double ControlGroupCores(const std::string& membership, const std::string& root);

// A quota as a number of threads: what would wait most of the time is left out; at least 1.
int ThreadsForQuota(double cores);

// The affinity masks of the processes on this machine that belong to the same job and run the same program, this one
// included; they have all been started. Of the job that the launcher's environment names; only this one's mask without.
std::vector<cpu_set_t> MasksOfJob();

// What the rank with mask `own` has to itself of its cores when each is shared evenly by the masks that hold it: ranks
// with the same mask divide it, disjoint masks are whole. At least 1.
int ShareOfCores(const cpu_set_t& own, std::span<const cpu_set_t> masks);

// Threads that one of `local_ranks` ranks on this machine has cores for, from the masks of all and the quota that they
// share; 0 if not all ranks can be found (ranks in containers of their own).
int CoresOfRank(int local_ranks);

// A sentence if ranks with so many threads leave cores idle, one per rank or more, that whoever started them may use;
// else empty. kernel_threads_max: as in RunFacts.
std::string IdleCoresWarning(int local_ranks, int threads_per_rank, int kernel_threads_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_CORES_H_
