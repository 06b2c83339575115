#include "comm/peer_judge.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

// A rank whose watcher has been still this long does not run, or its machine is too busy to tell.
constexpr double kStillSeconds = 2;

std::string NameOf(int rank, const RankProgress& progress) {
  return absl::StrCat("rank ", rank, " (pid ", progress.process_id, " on host ", progress.host.data(), ")");
}

// A peer that died in the first moment of an activity and one that had hung in it for minutes died of different things.
std::string PlaceAndTime(const RankProgress& progress) {
  const int64_t now_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const double seconds = 1e-9 * static_cast<double>(std::max<int64_t>(0, now_ns - progress.changed_ns));
  return absl::StrCat(progress.Where(), ", unchanged for ", FormatSeconds(seconds));
}

}  // namespace

PeerJudge::PeerJudge(std::shared_ptr<const ProgressBoard> board, int rank, double limit_seconds)
    : board_(std::move(board)), rank_(rank), limit_seconds_(limit_seconds), peers_(board_->size()) {}

std::string PeerJudge::Death(int rank, const RankProgress& progress) {
  return absl::StrCat(NameOf(rank, progress), " died at ", PlaceAndTime(progress));
}

std::string PeerJudge::Silence(int rank, const RankProgress& progress, const Peer& peer) const {
  const std::optional<ProcessState> process = board_->StateOf(progress);
  const char* how = " hangs at ";
  if (process && process->stopped()) {
    how = process->state == 'T' ? " is stopped at " : " is held by a debugger at ";
  } else if (peer.still_seconds > kStillSeconds) {
    how = " does not run at ";
  }
  std::string sentence =
      absl::StrFormat("%s%s%s and gave no sign of life for %.1f s (communication.timeout_seconds is %g)",
                      NameOf(rank, progress), how, progress.Where(), peer.silent_seconds, limit_seconds_);
  RankProgress mine;
  if (board_->Read(rank_, &mine)) absl::StrAppend(&sentence, "; rank ", rank_, " waits for it at ", mine.Where());
  return sentence;
}

std::string PeerJudge::Look(double seconds, double waited_seconds) {
  std::string silence;
  for (int r = 0; r < board_->size(); ++r) {
    RankProgress progress;
    if (r == rank_ || !board_->Read(r, &progress) || progress.state != RankProgress::kRunning) continue;
    if (board_->Died(progress)) {
      std::string sentence = Death(r, progress);
      RankProgress mine;
      if (board_->Read(rank_, &mine)) absl::StrAppend(&sentence, "; rank ", rank_, " was at ", PlaceAndTime(mine));
      return sentence;
    }
    Peer& peer = peers_[r];
    const uint64_t signs = board_->signs(r), beats = board_->beats(r);
    peer.silent_seconds = std::exchange(peer.signs, signs) == signs ? peer.silent_seconds + seconds : 0;
    peer.still_seconds = std::exchange(peer.beats, beats) == beats ? peer.still_seconds + seconds : 0;
    if (silence.empty() && std::min(peer.silent_seconds, waited_seconds) > limit_seconds_) {
      silence = Silence(r, progress, peer);
    }
  }
  return silence;
}

}  // namespace angel_ptm
