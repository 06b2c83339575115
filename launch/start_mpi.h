// The processes that a launcher started, as ranks of MPI: how they meet, and what is said when they do not.
#ifndef ANGEL_PTM_LAUNCH_START_MPI_H_
#define ANGEL_PTM_LAUNCH_START_MPI_H_

#include <memory>
#include <string>

#include "angel_ptm/base/status.h"
#ifdef ANGEL_PTM_WITH_MPI
#include "comm/mpi.h"
#endif

namespace angel_ptm {

bool StartedByMpirun();

// Processes that a launcher started and MPI did not bring together would each work alone. `work`: what they would do,
// "train"; world_size: as MPI says. kFailedPrecondition tells how to start them.
absl::Status CheckThatProcessesMet(int world_size, const std::string& work);

#ifdef ANGEL_PTM_WITH_MPI
// A rank that is lost while MPI starts keeps the others there, and nobody knows which it is: after the limit, which
// `limit_name` is called, the process ends with a sentence. Its launcher ends the job when one of them exits. Rank 0
// speaks, and rank 1 when rank 0 cannot.
absl::StatusOr<std::unique_ptr<MpiWorld>> StartMpi(double limit_seconds, const std::string& limit_name);

// Ends all ranks when they do not meet, before they have a board in common.
[[noreturn]] void EndUnmet(MpiWorld& world, const absl::Status& status);
#endif

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_START_MPI_H_
