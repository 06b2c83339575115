#include "comm/local.h"

#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "angel_ptm/base/check.h"
#include "comm/direct_read.h"
#include "comm/exchange_board.h"

namespace angel_ptm {

struct LocalWorld::Shared {
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  Shared(int size, WaitOptions wait_options)
      : memory(static_cast<size_t>((ExchangeBoard::BytesFor(size) + 63) / 64)),
        board(memory.data(), size),
        options(std::move(wait_options)),
        created(static_cast<size_t>(size)) {}

  std::vector<Line> memory;
  ExchangeBoard board;
  const WaitOptions options;
  std::vector<std::atomic<bool>> created;
};

namespace {

class LocalCommunicator final : public DirectReadCommunicator {
 public:
  LocalCommunicator(std::shared_ptr<void> keep_alive, const ExchangeBoard& world_board, int rank, WaitOptions options)
      : DirectReadCommunicator(world_board, rank, std::move(options)), keep_alive_(std::move(keep_alive)) {}
  ~LocalCommunicator() override { board().End(rank()); }

 private:
  absl::Status Read(std::byte* dst, int, uint64_t address, int64_t bytes) override {
    std::memcpy(dst, reinterpret_cast<const void*>(address), static_cast<size_t>(bytes));
    return absl::OkStatus();
  }
  bool readers_need_memory() const override { return true; }

  const std::shared_ptr<void> keep_alive_;
};

}  // namespace

LocalWorld::LocalWorld(int size, WaitOptions options) {
  APTM_CHECK(size >= 1, "a world of ", size, " ranks");
  shared_ = std::make_shared<Shared>(size, std::move(options));
}

int LocalWorld::size() const { return shared_->board.size(); }

std::unique_ptr<Communicator> LocalWorld::Create(int rank) { return Create(rank, shared_->options); }

std::unique_ptr<Communicator> LocalWorld::Create(int rank, WaitOptions options) {
  APTM_CHECK(rank >= 0 && rank < size(), "rank ", rank, " of ", size());
  APTM_CHECK(!shared_->created[static_cast<size_t>(rank)].exchange(true), "rank ", rank, " was created twice");
  return std::make_unique<LocalCommunicator>(shared_, shared_->board, rank, std::move(options));
}

void LocalWorld::Abort(std::string_view sentence) { shared_->board.Fail(sentence); }

}  // namespace angel_ptm
