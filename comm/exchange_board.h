// Where the ranks of one machine meet: each rank posts what it offers to its peers (a place and a size), arrives,
// and waits for the others' arrivals. Lives in ordinary memory when ranks are threads and in shared memory when they
// are processes. Waiting is spin, then futex: a waiting rank uses no CPU.
#ifndef ANGEL_PTM_COMM_EXCHANGE_BOARD_H_
#define ANGEL_PTM_COMM_EXCHANGE_BOARD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"
#include "comm/collective.h"
#include "comm/group.h"
#include "comm/mapped_arenas.h"
#include "comm/shared_record.h"
#include "comm/wait_options.h"

namespace angel_ptm {

// A call as peers may print it at any time.
struct CallText {
  uint8_t verb = 0;
  uint8_t valid = 0;
  std::array<char, 102> what = {};
  int64_t step = -1;
};

// One rank's place on the board. Only its owner writes, apart from `waiters`.
struct alignas(64) ExchangeSlot {
  // Calls arrive twice: first "my offer is posted", last "I no longer read yours"; where operands are staged also once
  // for every further piece, "it is there and I no longer read the last". Without staging odd counts are the first.
  std::atomic<uint32_t> arrivals{0};
  std::atomic<uint32_t> waiters{0};
  std::atomic<uint32_t> ended{0};
  // The offer; stable between its owner's odd arrival and everybody's even one.
  OperandPlace place;
  int64_t bytes = 0;
  CollectiveVerb verb = CollectiveVerb::kBarrier;
  int32_t root = 0;
  SharedRecord<CallText> call;
};

// The first failure of any rank: every other rank then stops waiting.
struct ExchangeFailure {
  enum State : uint32_t { kNone, kBeingWritten, kPublished };
  std::atomic<uint32_t> state{kNone};
  std::array<char, 764> sentence = {};
};

// Memory: BytesFor(size) zeroed bytes, 64-byte aligned, owned by the caller and shared by all ranks.
class ExchangeBoard {
 public:
  static int64_t BytesFor(int size);
  // Zeroed bytes are a valid empty board, so every process may construct its view without a hand-shake.
  ExchangeBoard(void* memory, int size);
  // Of a group: texts name the ranks as in the world, and `failure` is the world's, so that a failure on any board ends
  // the waits on all.
  ExchangeBoard(void* memory, const Group& group, ExchangeFailure& failure);

  int size() const { return static_cast<int>(slots_.size()); }
  ExchangeSlot& slot(int rank) { return slots_[rank]; }
  const ExchangeSlot& slot(int rank) const { return slots_[rank]; }

  // rank's arrivals = count, and wakes who waits for it.
  void Arrive(int rank, uint32_t count);
  bool Arrived(int rank, uint32_t count) const;

  // Until rank's arrivals >= count. kUnavailable, with a text that starts with the reason: the rank ended, any rank
  // failed, options.poll's error, or the timeout.
  absl::Status AwaitArrival(int rank, uint32_t count, const WaitOptions& options);

  // Marks the rank as gone; its peers' waits for it end.
  void End(int rank);

  // Records the first failure of any rank (later ones are dropped) and ends all waits.
  void Fail(std::string_view sentence);
  ExchangeFailure& failure() { return *failure_; }
  bool failed() const { return failure_->state.load() == ExchangeFailure::kPublished; }
  std::string failure_sentence() const;

  // `all-gather "x" (step 3)`, or "none" if the rank has made no call.
  std::string LastCall(int rank) const;

 private:
  absl::Status CheckWait(int rank, uint32_t count, double waited_seconds, const WaitOptions& options) const;

  ExchangeFailure* failure_;
  std::span<ExchangeSlot> slots_;
  std::vector<int> world_ranks_;  // by slot
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_EXCHANGE_BOARD_H_
