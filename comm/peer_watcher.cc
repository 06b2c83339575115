#include "comm/peer_watcher.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

constexpr double kHurriedPeriodSeconds = 0.01;

// A peer that died in the first moment of an activity and one that had hung in it for minutes died of different things.
std::string PlaceAndTime(const RankProgress& progress) {
  const int64_t now_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const double seconds = 1e-9 * static_cast<double>(std::max<int64_t>(0, now_ns - progress.changed_ns));
  return absl::StrCat(progress.Where(), ", unchanged for ", FormatSeconds(seconds));
}

}  // namespace

PeerWatcher::PeerWatcher(std::shared_ptr<const ProgressBoard> board, int rank,
                         std::function<void(std::string_view)> on_death, double period_seconds)
    : board_(std::move(board)), rank_(rank), on_death_(std::move(on_death)), period_seconds_(period_seconds) {
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

PeerWatcher::Loss PeerWatcher::Look() const {
  RankProgress mine;
  const bool known = board_->Read(rank_, &mine);
  for (int r = 0; r < board_->size(); ++r) {
    RankProgress peer;
    if (r == rank_ || !board_->Read(r, &peer)) continue;
    const bool failed = peer.state == RankProgress::kFailed;
    const bool died = peer.state == RankProgress::kRunning && board_->Died(peer);
    if (!failed && !died) continue;
    std::string sentence = absl::StrCat("rank ", r, " (pid ", peer.process_id, " on host ", peer.host.data(), ") ");
    if (died) {
      absl::StrAppend(&sentence, "died at ", PlaceAndTime(peer));
    } else {
      absl::StrAppend(&sentence, "failed", peer.step >= 0 ? absl::StrCat(" at step ", peer.step) : "", ": ",
                      peer.activity.data());
    }
    if (known) absl::StrAppend(&sentence, "; rank ", rank_, " was at ", PlaceAndTime(mine));
    return {std::move(sentence), died};
  }
  return {};
}

void PeerWatcher::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    Loss loss = Look();
    if (!loss.sentence.empty()) {
      sentence_ = std::move(loss.sentence);
      if (loss.died && on_death_) on_death_(sentence_);  // said before anybody acts on it
      lost_.store(true, std::memory_order_release);
      return;
    }
    lock.lock();
    const double period = period_seconds_;
    wake_.wait_for(lock, std::chrono::duration<double>(period), [&] { return stopping_ || period_seconds_ < period; });
  }
}

}  // namespace angel_ptm
