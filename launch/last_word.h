// Who says what ended a run, and that it ends: one sentence from the ranks of a machine, whatever they see of it.
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
  // end_all: ends this process and its peers with exit code 1; does not return.
  LastWord(std::shared_ptr<ProgressBoard> board, int rank, std::function<void()> end_all);

  // For PeerWatcher::Options::on_loss: this rank found the loss, so it says it and ends all, though its lanes may be
  // deep in a step.
  void SayLoss(std::string_view sentence) const;

  // This rank's training ended with an error. The first error of the machine's ranks is said by its rank; the others
  // follow from it, and their ranks are silent. A user's mistake is the same sentence on every rank: rank 0 says it. An
  // error that a dying peer may have caused waits for the watcher's verdict. Does not return.
  void SayError(const absl::Status& error, PeerWatcher& watcher) const;

 private:
  // The speaker ends this process; when it could not, this rank does. Does not return.
  void LeaveTheWordToAnother() const;

  const std::shared_ptr<ProgressBoard> board_;
  const int rank_;
  const std::function<void()> end_all_;
};

// "angel-ptm: <sentence>" to standard error, in one write, so that no other rank's words come between.
void SayToUser(std::string_view sentence);

// Blocks for so long: time in which another rank ends this one.
void AwaitTheEnd(double seconds);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_LAST_WORD_H_
