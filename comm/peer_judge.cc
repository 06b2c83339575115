#include "comm/peer_judge.h"

#include <algorithm>
#include <chrono>
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

// Where the rank is, and for how long: a peer that died at the start of an activity and one that had hung in it for
// minutes died of different things.
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

double PeerJudge::StillSeconds() const { return std::min(kStillSeconds, limit_seconds_ / 2); }

std::string PeerJudge::Silence(int rank, const RankProgress& progress, const Peer& peer) const {
  const std::string silence = absl::StrFormat("gave no sign of life for %.1f s (communication.timeout_seconds is %g)",
                                              peer.silent_seconds, limit_seconds_);
  std::string sentence;
  if (progress.remote != 0 && peer.unheard_seconds > StillSeconds()) {
    sentence = absl::StrCat("the machine of ", NameOf(rank, progress), " ", silence,
                            ": it or its network is stopped or lost; the rank was at ", progress.Where());
  } else {
    ProcessState process;
    process.state = static_cast<char>(progress.process_state);
    if (progress.remote == 0) process = board_->StateOf(progress).value_or(ProcessState{.state = '\0'});
    const char* how = " hangs at ";
    if (process.stopped()) {
      how = process.state == 'T' ? " is stopped at " : " is held by a debugger at ";
    } else if (peer.still_seconds > StillSeconds()) {
      how = " does not run at ";
    }
    sentence = absl::StrCat(NameOf(rank, progress), how, progress.Where(), " and ", silence);
  }
  RankProgress mine;
  if (board_->Read(rank_, &mine)) absl::StrAppend(&sentence, "; rank ", rank_, " waits for it at ", mine.Where());
  return sentence;
}

std::string PeerJudge::Look(double seconds, double waited_seconds) {
  std::string silence, remote_silence;
  // News of other machines comes through a process of this machine, which may be the one that is stopped.
  bool is_local_still = false;
  const double still_max = StillSeconds();
  for (int r = 0; r < board_->size(); ++r) {
    RankProgress progress;
    if (r == rank_ || !board_->Read(r, &progress) || progress.state != RankProgress::kRunning) continue;
    Peer& peer = peers_[r];
    const uint64_t signs = board_->signs(r), beats = board_->beats(r), heard = board_->heard(r);
    const bool stands = std::exchange(peer.beats, beats) == beats;
    // A rank whose watcher has beaten since the last look has been alive since, so not every rank needs to ask /proc
    // about every other.
    if (stands && board_->Died(progress)) {
      std::string sentence = Death(r, progress);
      RankProgress mine;
      if (board_->Read(rank_, &mine)) absl::StrAppend(&sentence, "; rank ", rank_, " was at ", PlaceAndTime(mine));
      return sentence;
    }
    peer.silent_seconds = std::exchange(peer.signs, signs) == signs ? peer.silent_seconds + seconds : 0;
    peer.still_seconds = stands ? peer.still_seconds + seconds : 0;
    peer.unheard_seconds = std::exchange(peer.heard, heard) == heard ? peer.unheard_seconds + seconds : 0;
    is_local_still = is_local_still || (progress.remote == 0 && peer.still_seconds > still_max);
    std::string& first = progress.remote == 0 ? silence : remote_silence;
    if (first.empty() && std::min(peer.silent_seconds, waited_seconds) > limit_seconds_) {
      first = Silence(r, progress, peer);
    }
  }
  return silence.empty() && !is_local_still ? remote_silence : silence;
}

}  // namespace angel_ptm
