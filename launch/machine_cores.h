// How many threads a run on this machine can use.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_CORES_H_
#define ANGEL_PTM_LAUNCH_MACHINE_CORES_H_

#include <sched.h>

#include <span>
#include <string>
#include <vector>

namespace angel_ptm {

// Cores that this process may use: those of its affinity mask, or fewer if the quota of a control group says so; at
// least 1.
int UsableCores();

// The smallest processor-time quota, in cores, of the control groups that `membership` names and their parents;
// infinite if none is limited. membership and root are those of machine_memory.h. Supports versions 1 and 2.
double ControlGroupCores(const std::string& membership, const std::string& root);

// A quota as a number of threads, at least 1. A thread that would wait most of the time is not counted.
int ThreadsForQuota(double cores);

// The affinity masks of the processes on this machine that belong to the same job and run the same program, including
// this one; all must have been started. The launcher's environment names the job; without a job, only this process's
// mask.
std::vector<cpu_set_t> MasksOfJob();

// The number of its cores that a rank with mask `own` has to itself, if each core is shared evenly by the masks that
// have it: ranks with the same mask divide it, disjoint masks count fully. At least 1.
int ShareOfCores(const cpu_set_t& own, std::span<const cpu_set_t> masks);

// Threads for which one of `local_ranks` ranks on this machine has cores, by the masks of all ranks and the quota that
// they share; 0 if not all ranks can be found (for example in separate containers).
int CoresOfRank(int local_ranks);

// A sentence if ranks with that many threads leave idle at least one core per rank that the user who started them may
// use; else empty. kernel_threads_max: see RunFacts.
std::string IdleCoresWarning(int local_ranks, int threads_per_rank, int kernel_threads_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_CORES_H_
