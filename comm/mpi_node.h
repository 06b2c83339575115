// Collectives between the processes of one machine by direct reads (direct_read.h): process_vm_readv copies straight
// from a peer's memory, and arrivals are counted in a page of shared memory.
#ifndef ANGEL_PTM_COMM_MPI_NODE_H_
#define ANGEL_PTM_COMM_MPI_NODE_H_

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/mpi.h"
#include "comm/wait_options.h"

namespace angel_ptm {

// All ranks call it together. kUnavailable on every rank, with one rank's reason, where direct reads don't work: ranks
// on several machines, no shared memory, or a kernel or container that forbids process_vm_readv.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t transfer_bytes_max);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_NODE_H_
