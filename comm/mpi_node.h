// Collectives between the processes of one machine by direct reads (direct_read.h): every rank has mapped its peers'
// arenas, and arrivals are counted in a page of shared memory.
#ifndef ANGEL_PTM_COMM_MPI_NODE_H_
#define ANGEL_PTM_COMM_MPI_NODE_H_

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/group.h"
#include "comm/mpi.h"
#include "comm/mpi_arenas.h"
#include "comm/wait_options.h"

namespace angel_ptm {

// What a call sends from outside the arenas goes through a buffer of so many bytes per rank and communicator: a second
// copy, and a wait for all ranks per half of it. Control data does; units' data lies in the device tier's arena.
constexpr int64_t kStagingBytes = int64_t{512} << 10;

// Of ranks in a group that one machine has, as messages' Split makes it (mpi_messages.h). Collective over `parent`,
// whose group is `of_parent`; part: null for ranks that come to no such group, which get null.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeGroup(Communicator& parent, const Group& of_parent,
                                                                 const Group* part, std::shared_ptr<MpiArenas> arenas,
                                                                 WaitOptions options, int64_t staging_bytes,
                                                                 CallTag tag);

// All ranks call it together. kUnavailable on every rank, with one rank's reason, where direct reads don't work: ranks
// on several machines, no shared memory, or ranks that do not see each other's files in /proc (another user, another
// process namespace).
// staging_bytes: instead of kStagingBytes; a multiple of 64. At least 128 for every rank of the world: a call has so
// many blocks at most.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t staging_bytes);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_NODE_H_
