// Was this process started by an MPI launcher? Known before MPI_Init, and in builds without MPI, so that a program run
// alone need not start MPI and a program without MPI can refuse to train N copies of the same run.
#ifndef ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_
#define ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_

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

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_ENVIRONMENT_H_
