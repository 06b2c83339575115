#include "comm/exchange_board.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;
static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

// Not the process-private operations: the word may lie in memory shared between processes.
void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, double seconds) {
  timespec timeout;
  timeout.tv_sec = static_cast<time_t>(seconds);
  timeout.tv_nsec = static_cast<long>((seconds - static_cast<double>(timeout.tv_sec)) * 1e9);
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void FutexWakeAll(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Counts wrap; ranks are never 2^31 arrivals apart.
bool Reached(uint32_t arrivals, uint32_t count) { return static_cast<int32_t>(arrivals - count) >= 0; }

}  // namespace

int64_t ExchangeBoard::BytesFor(int size) {
  return static_cast<int64_t>((sizeof(ExchangeFailure) + 63) / 64 * 64 +
                              sizeof(ExchangeSlot) * static_cast<size_t>(size));
}

ExchangeBoard::ExchangeBoard(void* memory, int size)
    : failure_(static_cast<ExchangeFailure*>(memory)),
      slots_(
          reinterpret_cast<ExchangeSlot*>(static_cast<std::byte*>(memory) + (sizeof(ExchangeFailure) + 63) / 64 * 64),
          static_cast<size_t>(size)),
      world_ranks_(Group::World(0, size).world_ranks) {}

ExchangeBoard::ExchangeBoard(void* memory, const Group& group, ExchangeFailure& failure)
    : ExchangeBoard(memory, group.size()) {
  failure_ = &failure;
  world_ranks_ = group.world_ranks;
}

void ExchangeBoard::Arrive(int rank, uint32_t count) {
  ExchangeSlot& s = slots_[rank];
  s.arrivals.store(count);
  if (s.waiters.load() != 0) FutexWakeAll(s.arrivals);
}

bool ExchangeBoard::Arrived(int rank, uint32_t count) const { return Reached(slots_[rank].arrivals.load(), count); }

absl::Status ExchangeBoard::CheckWait(int rank, uint32_t count, double waited_seconds,
                                      const WaitOptions& options) const {
  // What this rank saw itself comes before what another rank says.
  if (options.poll) {
    if (absl::Status status = options.poll(waited_seconds); !status.ok())
      return absl::UnavailableError(status.message());
  }
  if (failed()) return absl::UnavailableError(failure_sentence());
  // A rank makes all its arrivals before it ends, so look at them after `ended`.
  if (slots_[rank].ended.load() != 0 && !Arrived(rank, count)) {
    return absl::UnavailableError(
        absl::StrCat("rank ", world_ranks_[rank], " has ended; its last call was ", LastCall(rank)));
  }
  if (waited_seconds > options.timeout_seconds) {
    return absl::UnavailableError(absl::StrFormat("waited %.1f s for rank %d; its last call was %s", waited_seconds,
                                                  world_ranks_[rank], LastCall(rank)));
  }
  return absl::OkStatus();
}

absl::Status ExchangeBoard::AwaitArrival(int rank, uint32_t count, const WaitOptions& options) {
  ExchangeSlot& s = slots_[rank];
  if (Arrived(rank, count)) return absl::OkStatus();
  const Clock::time_point spin_end = Clock::now() + std::chrono::microseconds(options.spin_us);
  while (Clock::now() < spin_end) {
    if (Arrived(rank, count)) return absl::OkStatus();
    std::this_thread::yield();
  }
  absl::Status status;
  RunningTime waited;
  s.waiters.fetch_add(1);
  for (;;) {
    const uint32_t arrivals = s.arrivals.load();
    if (Reached(arrivals, count)) break;
    waited.Look();
    status = CheckWait(rank, count, waited.seconds(), options);
    if (!status.ok()) break;
    FutexWait(s.arrivals, arrivals, std::min(WaitOptions::kPollSeconds, options.timeout_seconds));
  }
  s.waiters.fetch_sub(1);
  return status;
}

void ExchangeBoard::End(int rank) {
  slots_[rank].ended.store(1);
  FutexWakeAll(slots_[rank].arrivals);
}

void ExchangeBoard::Fail(std::string_view sentence) {
  uint32_t expected = ExchangeFailure::kNone;
  if (failure_->state.compare_exchange_strong(expected, ExchangeFailure::kBeingWritten)) {
    const size_t n = std::min(sentence.size(), failure_->sentence.size() - 1);
    std::memcpy(failure_->sentence.data(), sentence.data(), n);
    failure_->state.store(ExchangeFailure::kPublished);
  }
  for (ExchangeSlot& s : slots_) FutexWakeAll(s.arrivals);
}

std::string ExchangeBoard::failure_sentence() const { return failed() ? failure_->sentence.data() : ""; }

std::string ExchangeBoard::LastCall(int rank) const {
  CallText text;
  if (!slots_[rank].call.Read(&text) || text.valid == 0) return "none";
  return Describe(static_cast<CollectiveVerb>(text.verb), CallTag{text.what.data(), text.step});
}

}  // namespace angel_ptm
