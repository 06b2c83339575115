// Was this process started by an MPI launcher, and with how many others? Known before MPI_Init, and in builds without
// MPI, so that a program run alone need not start MPI and a program without MPI can refuse to train N copies of the
// same run.
#ifndef ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_
#define ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_

#include <cstdlib>
#include <utility>

namespace angel_ptm {

// lookup: std::getenv's signature (only launch/ reads the environment). Open MPI's mpirun sets the first name, PMIx
// launchers (srun --mpi=pmix, mpirun 5) the second, PMI launchers (MPICH, srun --mpi=pmi2) the third.
template <typename Lookup>
bool StartedByMpiLauncher(Lookup&& lookup) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (lookup(name) != nullptr) return true;
  }
  return false;
}

// This process's number among those the launcher started; 0 if the launcher does not say.
template <typename Lookup>
int LaunchedRank(Lookup&& lookup) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* text = lookup(name); text != nullptr) return std::atoi(text);
  }
  return 0;
}

// The variable in which a launcher states the number of its processes, and that number; {nullptr, 1} if none does. The
// launcher nearest to this process has precedence: mpirun may start more or fewer processes than its Slurm job has
// tasks.
template <typename Lookup>
std::pair<const char*, int> LaunchedProcesses(Lookup&& lookup) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    const char* text = lookup(name);
    if (text != nullptr && std::atoi(text) > 0) return {name, std::atoi(text)};
  }
  return {nullptr, 1};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_
