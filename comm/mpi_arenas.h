// The arenas of processes (Communicator::MakeArena): the memory of each other that the processes of one machine have
// mapped, and the agreement between ranks on whether all of them could. One object per process, shared by its
// communicators.
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
  // machine: a number that all ranks of this process's machine have, and no others.
  MpiArenas(int rank, int size, int machine) : mapped_(rank, size), machine_(machine) {}

  // Implements Communicator::MakeArena over `ranks`, the ranks of the world.
  absl::StatusOr<std::shared_ptr<std::byte>> Make(Communicator& ranks, int64_t bytes, int threads, CallTag tag);

  // Where peers on the machine find this process's operand, and where this process finds a peer's.
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

// Collective: OK if `mine` is OK on all ranks; otherwise this rank's own error, or kUnavailable with the first rank
// that cannot `what`.
absl::Status AgreeOf(Communicator& ranks, const absl::Status& mine, const std::string& what, const CallTag& tag);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_ARENAS_H_
