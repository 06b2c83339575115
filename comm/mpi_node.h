// Collectives between the processes of one machine by direct reads (direct_read.h): every rank has mapped its peers'
// arenas, and arrivals are counted in shared memory.
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

// What a call sends from outside the arenas goes through a staging buffer of this size, one per rank and communicator.
// This costs a second copy, and a wait for all ranks per half of the buffer. Control data goes this way; units' data
// lies in the device tier's arena.
constexpr int64_t kStagingBytes = int64_t{512} << 10;

// Creates the communicator of a group whose ranks are all on one machine, for Split of messages (mpi_messages.h).
// Collective over `parent`, whose group is `of_parent`. part: this rank's group, or null if it is not such a group;
// then the rank gets null.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeGroup(Communicator& parent, const Group& of_parent,
                                                                 const Group* part, std::shared_ptr<MpiArenas> arenas,
                                                                 WaitOptions options, int64_t staging_bytes,
                                                                 CallTag tag);

// All ranks call it together. Returns kUnavailable on every rank, with one rank's reason, where direct reads do not
// work: ranks on several machines, no shared memory, or ranks that do not see each other's files in /proc (another
// user, another process namespace).
//
// staging_bytes: replaces kStagingBytes; a multiple of 64. It is raised to at least 128 bytes for every rank of the
// world, because a call has at most as many blocks as there are ranks.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t staging_bytes);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_NODE_H_
