// The relay of signs of life between the machines of an MPI world.
#ifndef ANGEL_PTM_COMM_MPI_RELAY_H_
#define ANGEL_PTM_COMM_MPI_RELAY_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/machine_relay.h"
#include "comm/mpi.h"
#include "comm/progress_board.h"

namespace angel_ptm {

// All ranks of a world of several machines call it together, after they have published on `board`, which the ranks of a
// machine share. Returns the machine's relay to its first rank, null to the others. kUnavailable, on all ranks with the
// same sentence, where a machine and that of rank 0 do not hear each other; kDeadlineExceeded where the ranks do not
// meet.
absl::StatusOr<std::unique_ptr<MachineRelay>> CreateMpiRelay(MpiWorld& world, std::shared_ptr<ProgressBoard> board);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_RELAY_H_
