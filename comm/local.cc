#include "comm/local.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "angel_ptm/base/check.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"

namespace angel_ptm {

namespace {

struct alignas(64) Line {
  std::byte bytes[64];
};
using BoardMemory = std::vector<Line>;

// What the ranks of one communicator share.
class Shared {
 public:
  explicit Shared(int size, std::shared_ptr<BoardMemory> world = nullptr)
      : memory_(std::make_shared<BoardMemory>(static_cast<size_t>((ExchangeBoard::BytesFor(size) + 63) / 64))),
        world_(world != nullptr ? std::move(world) : memory_) {}

  void* memory() { return memory_->data(); }

  // Returns the same object to all ranks that ask with the same arguments; each of the `size` ranks asks once.
  std::shared_ptr<Shared> OfGroup(int64_t split, int color, int size) {
    const std::lock_guard lock(mutex_);
    Meeting& meeting = groups_[{split, color}];
    if (meeting.shared == nullptr) meeting.shared = std::make_shared<Shared>(size, world_);
    std::shared_ptr<Shared> shared = meeting.shared;
    if (++meeting.ranks == size) groups_.erase({split, color});
    return shared;
  }

 private:
  struct Meeting {
    std::shared_ptr<Shared> shared;
    int ranks = 0;
  };

  const std::shared_ptr<BoardMemory> memory_;
  const std::shared_ptr<BoardMemory> world_;  // holds the failure of all; not a Shared, which may own this one
  std::mutex mutex_;
  std::map<std::pair<int64_t, int>, Meeting> groups_;  // until all their ranks have asked
};

class LocalCommunicator final : public DirectReadCommunicator {
 public:
  LocalCommunicator(std::shared_ptr<Shared> shared, const ExchangeBoard& board_of_group, Group group,
                    WaitOptions options)
      : DirectReadCommunicator(board_of_group, std::move(group), std::move(options)), shared_(std::move(shared)) {}
  ~LocalCommunicator() override { board().End(rank()); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    ASSIGN_OR_RETURN(Group part, SplitGroup(*this, group(), color, tag));
    std::shared_ptr<Shared> shared = shared_->OfGroup(splits_++, color, part.size());
    const ExchangeBoard part_board(shared->memory(), part, board().failure());
    return std::unique_ptr<Communicator>(
        std::make_unique<LocalCommunicator>(std::move(shared), part_board, std::move(part), options()));
  }

 private:
  // The ranks have one address space, which is everybody's arena.
  OperandPlace Find(const std::byte* data, int64_t) const override { return {0, reinterpret_cast<int64_t>(data)}; }
  const std::byte* AddressOf(int, const OperandPlace& place) const override {
    return reinterpret_cast<const std::byte*>(place.offset);
  }
  std::span<std::byte> Staging(int) override { return {}; }
  bool readers_need_memory() const override { return true; }

  const std::shared_ptr<Shared> shared_;
  int64_t splits_ = 0;
};

}  // namespace

struct LocalWorld::State {
  State(int size, WaitOptions wait_options)
      : shared(std::make_shared<Shared>(size)),
        board(shared->memory(), size),
        options(std::move(wait_options)),
        created(static_cast<size_t>(size)) {}

  const std::shared_ptr<Shared> shared;
  ExchangeBoard board;
  const WaitOptions options;
  std::vector<std::atomic<bool>> created;
};

LocalWorld::LocalWorld(int size, WaitOptions options) {
  APTM_CHECK(size >= 1, "a world of ", size, " ranks");
  state_ = std::make_shared<State>(size, std::move(options));
}

int LocalWorld::size() const { return state_->board.size(); }

std::unique_ptr<Communicator> LocalWorld::Create(int rank) { return Create(rank, state_->options); }

std::unique_ptr<Communicator> LocalWorld::Create(int rank, WaitOptions options) {
  APTM_CHECK(rank >= 0 && rank < size(), "rank ", rank, " of ", size());
  APTM_CHECK(!state_->created[static_cast<size_t>(rank)].exchange(true), "rank ", rank, " was created twice");
  return std::make_unique<LocalCommunicator>(state_->shared, state_->board, Group::World(rank, size()),
                                             std::move(options));
}

absl::Status LocalWorld::status() const {
  return state_->board.failed() ? absl::UnavailableError(state_->board.failure_sentence()) : absl::OkStatus();
}

void LocalWorld::Abort(std::string_view sentence) { state_->board.Fail(sentence); }

}  // namespace angel_ptm
