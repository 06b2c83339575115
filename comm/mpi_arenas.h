// The arenas of processes (Communicator::MakeArena): memory that those of one machine have mapped of each other, and
// the agreement of ranks on whether they all could. One per process, shared by its communicators.
#ifndef ANGEL_PTM_COMM_MPI_ARENAS_H_
#define ANGEL_PTM_COMM_MPI_ARENAS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "comm/mapped_arenas.h"

namespace angel_ptm {

class MpiArenas {
 public:
  // machine: a number that the ranks of this process's machine have alone.
  MpiArenas(int rank, int size, int machine) : mapped_(rank, size), machine_(machine) {}

  // Communicator::MakeArena over `ranks`, those of the world.
  absl::StatusOr<std::shared_ptr<std::byte>> Make(Communicator& ranks, int64_t bytes, int threads, CallTag tag);

  // Where this process's operand lies for its peers on the machine, and where a peer's lies for this process.
  OperandPlace Find(const std::byte* data, int64_t bytes) const { return mapped_.Find(data, bytes); }
  const std::byte* AddressOf(int world_rank, const OperandPlace& place) const {
    return mapped_.AddressOf(world_rank, place);
  }
  int machine() const { return machine_; }

 private:
  // Unmaps the arenas that all ranks have dropped.
  absl::Status RemoveDropped(Communicator& ranks, const CallTag& tag);

  MappedArenas mapped_;
  const int machine_;
};

// Collective: OK if `mine` is on all ranks, else this rank's own error or whose it is that cannot `what`.
absl::Status AgreeOf(Communicator& ranks, const absl::Status& mine, const std::string& what, const CallTag& tag);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_ARENAS_H_
