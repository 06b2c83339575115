#include "comm/mpi_node.h"

#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"
#include "comm/mpi_call.h"
#include "comm/shared_memory.h"

namespace angel_ptm {
namespace {

absl::Status ReadProcessMemory(std::byte* dst, pid_t process_id, uint64_t address, int64_t bytes,
                               int64_t transfer_bytes_max) {
  for (int64_t done = 0; done < bytes;) {
    const size_t n = static_cast<size_t>(std::min(transfer_bytes_max, bytes - done));
    const iovec to = {dst + done, n};
    const iovec from = {reinterpret_cast<void*>(address + static_cast<uint64_t>(done)), n};
    const ssize_t moved = process_vm_readv(process_id, &to, 1, &from, 1, 0);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) {
      return absl::UnavailableError(absl::StrCat("reading ", bytes, " bytes from process ", process_id,
                                                 " failed: ", moved == 0 ? "end of memory" : std::strerror(errno)));
    }
    done += moved;
  }
  return absl::OkStatus();
}

class MpiNodeCommunicator final : public DirectReadCommunicator {
 public:
  MpiNodeCommunicator(std::unique_ptr<SharedMemory> memory, int rank, int size, WaitOptions options,
                      int64_t transfer_bytes_max)
      : DirectReadCommunicator(ExchangeBoard(memory->data(), size), rank, std::move(options)),
        memory_(std::move(memory)),
        transfer_bytes_max_(transfer_bytes_max) {}
  ~MpiNodeCommunicator() override { board().End(rank()); }

 private:
  absl::StatusOr<const std::byte*> View(int peer, uint64_t address, int64_t bytes, std::byte* scratch) override {
    RETURN_IF_ERROR(Read(scratch, peer, address, bytes));
    return scratch;
  }
  absl::Status Read(std::byte* dst, int peer, uint64_t address, int64_t bytes) override {
    absl::Status status = ReadProcessMemory(dst, board().slot(peer).process_id, address, bytes, transfer_bytes_max_);
    if (status.ok()) return status;
    // A peer that gave up frees its memory under its readers: its reason is the reason.
    if (board().slot(peer).ended.load() != 0 && board().failed()) {
      return absl::UnavailableError(absl::StrCat("rank ", peer, " has given up: ", board().failure_sentence()));
    }
    return absl::Status(status.code(), absl::StrCat("rank ", peer, ": ", std::string(status.message())));
  }
  // Reading memory that is gone fails with EFAULT; it does not crash.
  bool readers_need_memory() const override { return false; }

  const std::unique_ptr<SharedMemory> memory_;
  const int64_t transfer_bytes_max_;
};

// Where the Yama security module restricts reading other processes (Ubuntu's default), lets the launcher and what it
// started read this one: the ranks of one mpirun are its children. Without Yama this has no effect.
void AllowReadsBySiblings() { prctl(PR_SET_PTRACER, static_cast<unsigned long>(getppid()), 0, 0, 0); }

struct Probe {
  int64_t process_id;
  uint64_t address;
};

// Reads a word of every peer, as the collectives will.
absl::Status ProbePeers(int rank, std::span<const Probe> probes) {
  for (int r = 0; r < static_cast<int>(probes.size()); ++r) {
    if (r == rank) continue;
    Probe seen;
    RETURN_IF_ERROR(ReadProcessMemory(reinterpret_cast<std::byte*>(&seen), static_cast<pid_t>(probes[r].process_id),
                                      probes[r].address, sizeof(seen), sizeof(seen)));
    if (std::memcmp(&seen, &probes[r], sizeof(seen)) != 0) {
      return absl::UnavailableError(absl::StrCat("process ", probes[r].process_id, " is not rank ", r));
    }
  }
  return absl::OkStatus();
}

// The same status on all ranks: that of the first rank with an error.
absl::Status Agree(const MpiWorld& world, const absl::Status& status) {
  const int mine = status.ok() ? world.size() : world.rank();
  int first = 0;
  ANGEL_PTM_MPI_CALL(MPI_Allreduce, &mine, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (first == world.size()) return absl::OkStatus();
  std::array<char, 256> text = {};
  std::memcpy(text.data(), status.message().data(), std::min(status.message().size(), text.size() - 1));
  ANGEL_PTM_MPI_CALL(MPI_Bcast, text.data(), static_cast<int>(text.size()), MPI_CHAR, first, MPI_COMM_WORLD);
  return absl::UnavailableError(absl::StrCat("rank ", first, ": ", text.data()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t transfer_bytes_max) {
  if (world.node_count() > 1) {
    return absl::UnavailableError(absl::StrCat("the ranks are on ", world.node_count(), " machines"));
  }
  ASSIGN_OR_RETURN(const std::string path, world.MakeSharedName("/dev/shm"));
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory =
      SharedMemory::Open(path, ExchangeBoard::BytesFor(world.size()));
  absl::Status status = memory.status();

  AllowReadsBySiblings();
  std::vector<Probe> probes(static_cast<size_t>(world.size()));
  Probe mine = {getpid(), 0};
  mine.address = reinterpret_cast<uint64_t>(&mine);
  ANGEL_PTM_MPI_CALL(MPI_Allgather, &mine, sizeof(mine), MPI_BYTE, probes.data(), sizeof(mine), MPI_BYTE,
                     MPI_COMM_WORLD);
  if (status.ok()) status = ProbePeers(world.rank(), probes);
  status =
      Agree(world, status);  // also keeps `mine` alive until all have read it, and the name until all have opened it
  // A rank that failed has removed the name before others made it anew, perhaps.
  if (memory.ok() && (world.rank() == 0 || !status.ok())) (*memory)->Unlink();
  RETURN_IF_ERROR(status);
  std::unique_ptr<Communicator> comm = std::make_unique<MpiNodeCommunicator>(
      std::move(*memory), world.rank(), world.size(), std::move(options), transfer_bytes_max);
  RETURN_IF_ERROR(world.Meet());  // all process ids are on the board
  return comm;
}

}  // namespace angel_ptm
