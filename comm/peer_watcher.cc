#include "comm/peer_watcher.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "comm/running_time.h"

namespace angel_ptm {
namespace {

constexpr double kHurriedPeriodSeconds = 0.01;

}  // namespace

PeerWatcher::PeerWatcher(std::shared_ptr<ProgressBoard> board, int rank, Options options)
    : board_(std::move(board)),
      rank_(rank),
      options_(std::move(options)),
      judge_(board_, rank, options_.limit_seconds),
      period_seconds_(options_.period_seconds) {
  thread_ = std::thread([this] { Run(); });
}

PeerWatcher::~PeerWatcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status PeerWatcher::Poll(double waited_seconds) {
  board_->Sign(rank_);
  waited_seconds_.store(waited_seconds, std::memory_order_relaxed);
  polls_.fetch_add(1, std::memory_order_release);
  return status();
}

absl::Status PeerWatcher::status() const {
  if (!lost_.load(std::memory_order_acquire)) return absl::OkStatus();
  return absl::UnavailableError(sentence_);
}

absl::Status PeerWatcher::AwaitLoss(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  {
    const std::lock_guard lock(mutex_);
    period_seconds_ = std::min(period_seconds_, kHurriedPeriodSeconds);
  }
  wake_.notify_all();
  while (status().ok() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kHurriedPeriodSeconds));
  }
  return status();
}

bool PeerWatcher::Look(double seconds) {
  board_->Beat(rank_);
  // Two polls of one wait are less than a period apart, so without a new poll this rank is not waiting.
  const uint64_t polls = polls_.load(std::memory_order_acquire);
  const bool waits = std::exchange(polls_seen_, polls) != polls;
  std::string sentence = judge_.Look(seconds, waits ? waited_seconds_.load(std::memory_order_relaxed) : 0);
  const bool first = !sentence.empty() && board_->Accuse(sentence);
  // If another rank was first, its sentence is the reason; a rank that was killed while it wrote its sentence leaves
  // none.
  if (std::string verdict = board_->Verdict(); !verdict.empty()) sentence = std::move(verdict);
  if (sentence.empty()) return false;
  sentence_ = std::move(sentence);
  if (first && options_.on_loss) options_.on_loss(sentence_);  // said before anybody acts on it
  lost_.store(true, std::memory_order_release);
  return true;
}

void PeerWatcher::Run() {
  RunningTime time;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    if (Look(time.Look())) return;
    lock.lock();
    const double period = period_seconds_;
    wake_.wait_for(lock, std::chrono::duration<double>(period), [&] { return stopping_ || period_seconds_ < period; });
  }
}

}  // namespace angel_ptm
