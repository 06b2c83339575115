// Decides who reports why a run ended and ends it: one sentence from the ranks of a machine, whatever each has seen.
#ifndef ANGEL_PTM_LAUNCH_LAST_WORD_H_
#define ANGEL_PTM_LAUNCH_LAST_WORD_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "angel_ptm/base/status.h"
#include "comm/peer_watcher.h"
#include "comm/progress_board.h"

namespace angel_ptm {

class LastWord {
 public:
  // end_all ends this process and its peers with exit code 1; it must not return.
  LastWord(std::shared_ptr<ProgressBoard> board, int rank, std::function<void()> end_all);

  // For PeerWatcher::Options::on_loss. This rank found the loss, so it reports it and ends all ranks, even if its lanes
  // are in the middle of a step.
  void SayLoss(std::string_view sentence) const;

  // Call if this rank's training ended with an error; does not return. Of the machine's ranks, the first to fail
  // reports its error. The others' errors follow from it, so they stay silent. A user's mistake gives the same sentence
  // on every rank and is reported by rank 0. An error that a dying peer may have caused waits for the verdict of the
  // watcher.
  void SayError(const absl::Status& error, PeerWatcher& watcher) const;

 private:
  // Waits for the reporting rank to end this process, and ends all ranks if it could not. Does not return.
  void LeaveTheWordToAnother() const;

  const std::shared_ptr<ProgressBoard> board_;
  const int rank_;
  const std::function<void()> end_all_;
};

// Writes "angel-ptm: <sentence>" to standard error in a single write, so that other ranks' output cannot interleave.
void SayToUser(std::string_view sentence);

// Blocks for that long, so that another rank can end this one.
void AwaitTheEnd(double seconds);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_LAST_WORD_H_
