#include "comm/mpi_node.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"
#include "comm/mapped_arenas.h"
#include "comm/shared_memory.h"

namespace angel_ptm {
namespace {

using SharedPieces = std::vector<std::shared_ptr<SharedMemory>>;

// A board and behind it the staging buffers of its ranks.
struct BoardMemory {
  static int64_t BytesFor(int size, int64_t staging_bytes) { return StagingBegin(size) + size * staging_bytes; }
  static int64_t StagingBegin(int size) { return (ExchangeBoard::BytesFor(size) + 63) / 64 * 64; }
  std::span<std::byte> Staging(int size, int rank) const {
    return {static_cast<std::byte*>(memory->data()) + StagingBegin(size) + rank * staging_bytes,
            static_cast<size_t>(staging_bytes)};
  }

  std::shared_ptr<SharedMemory> memory;
  int64_t staging_bytes;
};

class MpiNodeCommunicator final : public DirectReadCommunicator {
 public:
  // `world`: the memory of the world's board, which has the failure of all; `memory`'s own if this is the world.
  MpiNodeCommunicator(BoardMemory memory, std::shared_ptr<SharedMemory> world, std::shared_ptr<MappedArenas> arenas,
                      ExchangeBoard board, Group group, WaitOptions options)
      : DirectReadCommunicator(std::move(board), std::move(group), std::move(options)),
        memory_(std::move(memory)),
        world_(std::move(world)),
        arenas_(std::move(arenas)) {}
  ~MpiNodeCommunicator() override { board().End(rank()); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override;
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override;

 private:
  // Memory for the board of each part of this group, made by the part's first rank. All fail where one does.
  absl::StatusOr<std::unique_ptr<SharedMemory>> ShareMemory(const Group& part, const CallTag& tag);
  // OK if `mine` is on all ranks, else this rank's own error or whose it is that cannot `what`.
  absl::Status Agree(const absl::Status& mine, const std::string& what, const CallTag& tag);
  // Unmaps the arenas that all ranks have dropped.
  absl::Status RemoveDroppedArenas(const CallTag& tag);

  OperandPlace Find(const std::byte* data, int64_t bytes) const override { return arenas_->Find(data, bytes); }
  const std::byte* AddressOf(int peer, const OperandPlace& place) const override {
    return arenas_->AddressOf(world_rank(peer), place);
  }
  std::span<std::byte> Staging(int rank) override { return memory_.Staging(size(), rank); }
  // They have mapped it themselves.
  bool readers_need_memory() const override { return false; }

  const BoardMemory memory_;
  const std::shared_ptr<SharedMemory> world_;
  const std::shared_ptr<MappedArenas> arenas_;  // of all communicators of this rank
};

absl::Status MpiNodeCommunicator::Agree(const absl::Status& mine, const std::string& what, const CallTag& tag) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> fine, GatherWords(*this, uint8_t{mine.ok()}, tag));
  RETURN_IF_ERROR(mine);
  const auto bad = std::find(fine.begin(), fine.end(), 0);
  if (bad == fine.end()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("rank ", world_rank(static_cast<int>(bad - fine.begin())), " cannot ", what));
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiNodeCommunicator::Split(int color, CallTag tag) {
  ASSIGN_OR_RETURN(Group part, SplitGroup(*this, group(), color, tag));
  ASSIGN_OR_RETURN(std::shared_ptr<SharedMemory> memory, ShareMemory(part, tag));
  ExchangeBoard part_board(memory->data(), part, board().failure());
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiNodeCommunicator>(BoardMemory{std::move(memory), memory_.staging_bytes}, world_, arenas_,
                                            std::move(part_board), std::move(part), options()));
}

absl::StatusOr<std::unique_ptr<SharedMemory>> MpiNodeCommunicator::ShareMemory(const Group& part, const CallTag& tag) {
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory = absl::UnavailableError("its creator has none");
  SharedMemory::Handle mine;
  if (part.rank == 0) {
    memory = SharedMemory::Create(BoardMemory::BytesFor(part.size(), memory_.staging_bytes));
    if (memory.ok()) mine = (*memory)->handle();
  }
  ASSIGN_OR_RETURN(const std::vector<SharedMemory::Handle> owners, GatherWords(*this, mine, tag));
  if (part.rank != 0) {
    const std::vector<int>& ranks = group().world_ranks;
    const SharedMemory::Handle& first =
        owners[std::find(ranks.begin(), ranks.end(), part.world_ranks[0]) - ranks.begin()];
    if (first.descriptor >= 0) memory = SharedMemory::Open(first, SharedMemory::Access::kReadWrite);
  }
  RETURN_IF_ERROR(Agree(memory.status(), "open the shared memory of its group", tag));
  (*memory)->CloseDescriptor();
  return memory;
}

absl::Status MpiNodeCommunicator::RemoveDroppedArenas(const CallTag& tag) {
  MappedArenas::Bits places = arenas_->Dropped();
  for (uint64_t& word : places) {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> of_ranks, GatherWords(*this, word, tag));
    for (const uint64_t peers : of_ranks) word &= peers;
  }
  arenas_->Remove(places);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<std::byte>> MpiNodeCommunicator::MakeArena(int64_t bytes, int threads, CallTag tag) {
  APTM_CHECK(size() == group().world_size, "an arena is all ranks', not a group's");
  if (size() == 1) return nullptr;
  RETURN_IF_ERROR(RemoveDroppedArenas(tag));
  std::shared_ptr<SharedMemory> own;
  absl::Status status;
  if (bytes > 0) {
    absl::StatusOr<std::unique_ptr<SharedMemory>> made = SharedMemory::CreateTouched(bytes, threads);
    if (made.ok()) {
      own = *std::move(made);
    } else {
      status = absl::Status(made.status().code(),
                            absl::StrCat(std::string(tag.what), ": ", std::string(made.status().message())));
    }
  }
  RETURN_IF_ERROR(Agree(status, absl::StrCat("have its memory for ", std::string(tag.what)), tag));
  ASSIGN_OR_RETURN(const std::vector<SharedMemory::Handle> handles,
                   GatherWords(*this, own != nullptr ? own->handle() : SharedMemory::Handle(), tag));
  SharedPieces by_rank(handles.size());
  for (size_t r = 0; r < handles.size() && status.ok(); ++r) {
    if (static_cast<int>(r) == rank()) {
      by_rank[r] = own;
    } else if (handles[r].descriptor >= 0) {
      absl::StatusOr<std::unique_ptr<SharedMemory>> opened =
          SharedMemory::Open(handles[r], SharedMemory::Access::kRead);
      status = opened.status();
      if (opened.ok()) by_rank[r] = *std::move(opened);
    }
  }
  RETURN_IF_ERROR(Agree(status, absl::StrCat("map its peers' memory for ", std::string(tag.what)), tag));
  if (own != nullptr) own->CloseDescriptor();
  arenas_->Add(std::move(by_rank));
  if (own == nullptr) return std::make_shared<std::byte>();
  std::byte* const data = static_cast<std::byte*>(own->data());
  return std::shared_ptr<std::byte>(std::move(own), data);
}

// What a rank writes to its slot, to be seen by all: that they have mapped the same memory.
int64_t WordOf(int rank) { return int64_t{0x616e67656c} << 24 | rank; }

absl::Status CheckSlots(const ExchangeBoard& board) {
  for (int r = 0; r < board.size(); ++r) {
    if (board.slot(r).bytes == WordOf(r)) continue;
    return absl::UnavailableError(absl::StrCat("what rank ", r, " writes to shared memory does not arrive"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeCommunicator(MpiWorld& world, WaitOptions options,
                                                                        int64_t staging_bytes) {
  const int size = world.size();
  staging_bytes = std::max(staging_bytes, int64_t{128} * size);
  if (world.node_count() > 1) {
    return absl::UnavailableError(absl::StrCat("the ranks are on ", world.node_count(), " machines"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, world.ShareMemory(BoardMemory::BytesFor(size, staging_bytes)));
  ExchangeBoard board(memory->data(), size);
  board.slot(world.rank()).bytes = WordOf(world.rank());
  RETURN_IF_ERROR(world.Meet("the first exchange"));
  RETURN_IF_ERROR(world.meeting().Agree("the choice of a transport", CheckSlots(board)));
  const std::shared_ptr<SharedMemory> shared = std::move(memory);
  return std::unique_ptr<Communicator>(std::make_unique<MpiNodeCommunicator>(
      BoardMemory{shared, staging_bytes}, shared, std::make_shared<MappedArenas>(world.rank(), size), board,
      Group::World(world.rank(), size), std::move(options)));
}

}  // namespace angel_ptm
