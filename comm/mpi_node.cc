#include "comm/mpi_node.h"

#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"
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
  // `world`: the memory of the world's board, which has the failure of all; `memory` itself if this is the world.
  MpiNodeCommunicator(std::shared_ptr<SharedMemory> memory, std::shared_ptr<SharedMemory> world, ExchangeBoard board,
                      Group group, WaitOptions options, int64_t transfer_bytes_max)
      : DirectReadCommunicator(std::move(board), std::move(group), std::move(options)),
        memory_(std::move(memory)),
        world_(std::move(world)),
        transfer_bytes_max_(transfer_bytes_max) {}
  ~MpiNodeCommunicator() override { board().End(rank()); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    ASSIGN_OR_RETURN(Group part, SplitGroup(*this, group(), color, tag));
    ASSIGN_OR_RETURN(std::shared_ptr<SharedMemory> memory, ShareMemory(part, tag));
    ExchangeBoard part_board(memory->data(), part, board().failure());
    return std::unique_ptr<Communicator>(std::make_unique<MpiNodeCommunicator>(
        std::move(memory), world_, std::move(part_board), std::move(part), options(), transfer_bytes_max_));
  }

 private:
  // Memory for the board of each part of this group, made by the part's first rank. All fail where one does.
  absl::StatusOr<std::unique_ptr<SharedMemory>> ShareMemory(const Group& part, const CallTag& tag);

  absl::Status Read(std::byte* dst, int peer, uint64_t address, int64_t bytes) override {
    absl::Status status = ReadProcessMemory(dst, board().slot(peer).process_id, address, bytes, transfer_bytes_max_);
    if (status.ok()) return status;
    // A peer that gave up frees its memory under its readers: its reason is the reason.
    if (board().slot(peer).ended.load() != 0 && board().failed()) {
      return absl::UnavailableError(
          absl::StrCat("rank ", world_rank(peer), " has given up: ", board().failure_sentence()));
    }
    return absl::Status(status.code(), absl::StrCat("rank ", world_rank(peer), ": ", std::string(status.message())));
  }
  // Reading memory that is gone fails with EFAULT; it does not crash.
  bool readers_need_memory() const override { return false; }

  const std::shared_ptr<SharedMemory> memory_, world_;
  const int64_t transfer_bytes_max_;
};

absl::StatusOr<std::unique_ptr<SharedMemory>> MpiNodeCommunicator::ShareMemory(const Group& part, const CallTag& tag) {
  struct Owner {
    int64_t process_id = 0, descriptor = -1;
  };
  const int64_t bytes = ExchangeBoard::BytesFor(part.size());
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory = absl::UnavailableError("its creator has none");
  Owner mine;
  if (part.rank == 0) {
    memory = SharedMemory::Create(bytes);
    if (memory.ok()) mine = {getpid(), (*memory)->descriptor()};
  }
  ASSIGN_OR_RETURN(const std::vector<Owner> owners, GatherWords(*this, mine, tag));
  if (part.rank != 0) {
    const std::vector<int>& ranks = group().world_ranks;
    const Owner& first = owners[std::find(ranks.begin(), ranks.end(), part.world_ranks[0]) - ranks.begin()];
    if (first.descriptor >= 0) {
      memory = SharedMemory::Open(first.process_id, static_cast<int>(first.descriptor), bytes);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<uint8_t> shared, GatherWords(*this, uint8_t{memory.ok()}, tag));
  RETURN_IF_ERROR(memory.status());
  if (const auto bad = std::find(shared.begin(), shared.end(), 0); bad != shared.end()) {
    const int rank = world_rank(static_cast<int>(bad - shared.begin()));
    return absl::UnavailableError(absl::StrCat("rank ", rank, " cannot open the shared memory of its group"));
  }
  (*memory)->CloseDescriptor();
  return memory;
}

// Where the Yama security module restricts reading other processes (Ubuntu's default), lets the launcher and what it
// started read this one: the ranks of one mpirun are its children. Without Yama this has no effect.
void AllowReadsBySiblings() { prctl(PR_SET_PTRACER, static_cast<unsigned long>(getppid()), 0, 0, 0); }

// Reads a word of every peer, as the collectives will: each has posted its process and where its word is.
absl::Status ProbePeers(int rank, const ExchangeBoard& board) {
  for (int r = 0; r < board.size(); ++r) {
    if (r == rank) continue;
    const ExchangeSlot& peer = board.slot(r);
    int64_t seen = 0;
    RETURN_IF_ERROR(ReadProcessMemory(reinterpret_cast<std::byte*>(&seen), peer.process_id, peer.address, sizeof(seen),
                                      sizeof(seen)));
    if (seen != peer.bytes) {
      return absl::UnavailableError(absl::StrCat("process ", peer.process_id, " is not rank ", r));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t transfer_bytes_max) {
  if (world.node_count() > 1) {
    return absl::UnavailableError(absl::StrCat("the ranks are on ", world.node_count(), " machines"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, world.ShareMemory(ExchangeBoard::BytesFor(world.size())));
  ExchangeBoard board(memory->data(), world.size());
  AllowReadsBySiblings();
  const int64_t word = int64_t{getpid()} << 32 | world.rank();
  ExchangeSlot& mine = board.slot(world.rank());
  mine.process_id = static_cast<int32_t>(getpid());
  mine.address = reinterpret_cast<uint64_t>(&word);
  mine.bytes = word;
  RETURN_IF_ERROR(world.Meet("the first exchange"));
  // Agreeing also keeps the word alive until all have read it.
  RETURN_IF_ERROR(world.meeting().Agree("the choice of a transport", ProbePeers(world.rank(), board)));
  const std::shared_ptr<SharedMemory> shared = std::move(memory);
  return std::unique_ptr<Communicator>(std::make_unique<MpiNodeCommunicator>(
      shared, shared, board, Group::World(world.rank(), world.size()), std::move(options), transfer_bytes_max));
}

}  // namespace angel_ptm
