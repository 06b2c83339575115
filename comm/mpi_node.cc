#include "comm/mpi_node.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"
#include "comm/mpi_arenas.h"
#include "comm/shared_memory.h"

namespace angel_ptm {
namespace {

// A board, followed by the staging buffers of its ranks.
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
  // `world`: the memory of the board that holds the failure of all; the same as `memory`, unless this is a group split
  // from a communicator of this class.
  MpiNodeCommunicator(BoardMemory memory, std::shared_ptr<SharedMemory> world, std::shared_ptr<MpiArenas> arenas,
                      ExchangeBoard board, Group group, WaitOptions options)
      : DirectReadCommunicator(std::move(board), std::move(group), std::move(options)),
        memory_(std::move(memory)),
        world_(std::move(world)),
        arenas_(std::move(arenas)) {}
  ~MpiNodeCommunicator() override { board().End(rank()); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override;
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override;

 private:
  OperandPlace Find(const std::byte* data, int64_t bytes) const override { return arenas_->Find(data, bytes); }
  const std::byte* AddressOf(int peer, const OperandPlace& place) const override {
    return arenas_->AddressOf(world_rank(peer), place);
  }
  std::span<std::byte> Staging(int rank) override { return memory_.Staging(size(), rank); }
  // Peers have mapped the memory themselves.
  bool readers_need_memory() const override { return false; }

  const BoardMemory memory_;
  const std::shared_ptr<SharedMemory> world_;
  const std::shared_ptr<MpiArenas> arenas_;  // of all communicators of this rank
};

// Returns the memory for the board of this rank's part of `parent`, made by the part's first rank; null if `part` is
// null. Collective over parent; all ranks fail if one does.
absl::StatusOr<std::shared_ptr<SharedMemory>> ShareBoard(Communicator& parent, const Group& of_parent,
                                                         const Group* part, int64_t staging_bytes, const CallTag& tag) {
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory = absl::UnavailableError("its creator has none");
  SharedMemory::Handle mine;
  if (part != nullptr && part->rank == 0) {
    memory = SharedMemory::Create(BoardMemory::BytesFor(part->size(), staging_bytes));
    if (memory.ok()) mine = (*memory)->handle();
  }
  ASSIGN_OR_RETURN(const std::vector<SharedMemory::Handle> owners, GatherWords(parent, mine, tag));
  if (part != nullptr && part->rank != 0) {
    const std::vector<int>& ranks = of_parent.world_ranks;
    const SharedMemory::Handle& first =
        owners[std::find(ranks.begin(), ranks.end(), part->world_ranks[0]) - ranks.begin()];
    if (first.descriptor >= 0) memory = SharedMemory::Open(first, SharedMemory::Access::kReadWrite);
  }
  RETURN_IF_ERROR(AgreeOf(parent, part == nullptr ? absl::OkStatus() : memory.status(),
                          "open the shared memory of its group", tag));
  if (part == nullptr) return nullptr;
  (*memory)->CloseDescriptor();
  return std::shared_ptr<SharedMemory>(*std::move(memory));
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiNodeCommunicator::Split(int color, CallTag tag) {
  ASSIGN_OR_RETURN(Group part, SplitGroup(*this, group(), color, tag));
  ASSIGN_OR_RETURN(std::shared_ptr<SharedMemory> memory, ShareBoard(*this, group(), &part, memory_.staging_bytes, tag));
  ExchangeBoard part_board(memory->data(), part, board().failure());
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiNodeCommunicator>(BoardMemory{std::move(memory), memory_.staging_bytes}, world_, arenas_,
                                            std::move(part_board), std::move(part), options()));
}

absl::StatusOr<std::shared_ptr<std::byte>> MpiNodeCommunicator::MakeArena(int64_t bytes, int threads, CallTag tag) {
  APTM_CHECK(size() == group().world_size, "an arena is all ranks', not a group's");
  if (size() == 1) return nullptr;
  return arenas_->Make(*this, bytes, threads, tag);
}

// What a rank writes to its slot. If all ranks see it, they have mapped the same memory.
int64_t WordOf(int rank) { return int64_t{0x616e67656c} << 24 | rank; }

absl::Status CheckSlots(const ExchangeBoard& board) {
  for (int r = 0; r < board.size(); ++r) {
    if (board.slot(r).bytes == WordOf(r)) continue;
    return absl::UnavailableError(absl::StrCat("what rank ", r, " writes to shared memory does not arrive"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiNodeGroup(Communicator& parent, const Group& of_parent,
                                                                 const Group* part, std::shared_ptr<MpiArenas> arenas,
                                                                 WaitOptions options, int64_t staging_bytes,
                                                                 CallTag tag) {
  staging_bytes = std::max(staging_bytes, int64_t{128} * of_parent.world_size);
  ASSIGN_OR_RETURN(const std::shared_ptr<SharedMemory> memory, ShareBoard(parent, of_parent, part, staging_bytes, tag));
  if (part == nullptr) return nullptr;
  // A rank that fails ends the waits of its group; the waits of other groups must be ended by the PeerWatcher.
  ExchangeFailure& failure = ExchangeBoard(memory->data(), part->size()).failure();
  return std::make_unique<MpiNodeCommunicator>(BoardMemory{memory, staging_bytes}, memory, std::move(arenas),
                                               ExchangeBoard(memory->data(), *part, failure), *part,
                                               std::move(options));
}

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
      BoardMemory{shared, staging_bytes}, shared, std::make_shared<MpiArenas>(world.rank(), size, /*machine=*/0), board,
      Group::World(world.rank(), size), std::move(options)));
}

}  // namespace angel_ptm
