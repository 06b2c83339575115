// How the processes that a launcher started meet as ranks of MPI, and the error if they do not.
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

// Fails if a launcher started several processes but MPI did not connect them, since each would work alone. `work`: what
// they would do, such as "train"; world_size: as MPI reports it. kFailedPrecondition says how to start them.
absl::Status CheckThatProcessesMet(int world_size, const std::string& work);

#ifdef ANGEL_PTM_WITH_MPI
// Starts MPI. A rank lost during the start would keep the others waiting there, and nobody knows which one it is. So
// the process ends with a sentence after the limit, which is called `limit_name`; the launcher ends the job when one
// process exits. Rank 0 reports, or rank 1 if rank 0 cannot.
absl::StatusOr<std::unique_ptr<MpiWorld>> StartMpi(double limit_seconds, const std::string& limit_name);

// Ends all ranks if they do not meet. For use before they have a common progress board.
[[noreturn]] void EndUnmet(MpiWorld& world, const absl::Status& status);
#endif

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_START_MPI_H_
