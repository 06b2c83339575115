// Where the ranks of one machine meet: each rank posts what it offers to its peers (a place and a size), arrives, and
// waits for the others' arrivals. The board lies in ordinary memory when ranks are threads and in shared memory when
// they are processes. A wait spins briefly and then sleeps on a futex, so a waiting rank uses no CPU.
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

// The description of a call, which peers may print at any time.
struct CallText {
  uint8_t verb = 0;
  uint8_t valid = 0;
  std::array<char, 102> what = {};
  int64_t step = -1;
};

// One rank's slot on the board. Only its owner writes to it, except for `waiters`.
struct alignas(64) ExchangeSlot {
  // A rank arrives twice per call: first "my offer is posted", last "I no longer read yours". Where operands are
  // staged, it also arrives once for every further piece: "the piece is there, and I no longer read the previous one".
  // Without staging, odd counts are the first arrivals of calls.
  std::atomic<uint32_t> arrivals{0};
  std::atomic<uint32_t> waiters{0};
  std::atomic<uint32_t> ended{0};
  // The offer; stable between its owner's first arrival in a call and everybody's last.
  OperandPlace place;
  int64_t bytes = 0;
  CollectiveVerb verb = CollectiveVerb::kBarrier;
  int32_t root = 0;
  SharedRecord<CallText> call;
};

// The first failure of any rank. Once it is published, every other rank stops waiting.
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
  // The board of a group: messages number the ranks as in the world. `failure` is that of another board, as a rule the
  // world's, so that a failure on one of the boards ends the waits on all of them.
  ExchangeBoard(void* memory, const Group& group, ExchangeFailure& failure);

  int size() const { return static_cast<int>(slots_.size()); }
  ExchangeSlot& slot(int rank) { return slots_[rank]; }
  const ExchangeSlot& slot(int rank) const { return slots_[rank]; }

  // Sets the rank's arrivals to `count` and wakes those who wait for it.
  void Arrive(int rank, uint32_t count);
  bool Arrived(int rank, uint32_t count) const;

  // Waits until the rank's arrivals >= count. Returns kUnavailable, with a text that starts with the reason, if the
  // rank ended, any rank failed, options.poll returned an error, or the timeout passed.
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
