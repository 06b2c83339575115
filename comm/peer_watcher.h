// A rank's watcher thread. It tells the peers that this process runs, and notices that a rank of this machine died
// (within a fraction of a second), that a rank fell silent (within the limit), and that another rank ended the run (at
// its next look). Processes in another PID namespace, and those of other machines where a relay mirrors them
// (machine_relay.h), can be heard but not inspected: their silence counts, but their death is left to mpirun, which
// ends the job when any process dies.
#ifndef ANGEL_PTM_COMM_PEER_WATCHER_H_
#define ANGEL_PTM_COMM_PEER_WATCHER_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "angel_ptm/base/status.h"
#include "comm/peer_judge.h"
#include "comm/progress_board.h"

namespace angel_ptm {

class PeerWatcher {
 public:
  struct Options {
    double limit_seconds = 60;  // of silence (progress_board.h defines the signs of life)
    double period_seconds = 0.2;
    // Called at most once, on the watcher's thread, when this rank is the first to find a loss: tells the user the
    // sentence.
    std::function<void(std::string_view sentence)> on_loss;
  };

  PeerWatcher(std::shared_ptr<ProgressBoard> board, int rank, Options options);
  ~PeerWatcher();

  // For WaitOptions::poll: notes that this rank lives and for how long it has been waiting. Returns OK while no peer is
  // lost, afterwards kUnavailable with the sentence that ended the run.
  absl::Status Poll(double waited_seconds);

  absl::Status status() const;

  // For an error that a dying peer may have caused before this watcher looked: makes the watcher look often, and waits
  // until a loss shows or `seconds` have passed. Returns status(). Any thread.
  absl::Status AwaitLoss(double seconds);

 private:
  void Run();
  // One look; true if it ended the run.
  bool Look(double seconds);

  const std::shared_ptr<ProgressBoard> board_;
  const int rank_;
  const Options options_;
  PeerJudge judge_;
  std::atomic<uint64_t> polls_{0};
  std::atomic<double> waited_seconds_{0};  // as the newest poll said
  uint64_t polls_seen_ = 0;
  std::atomic<bool> lost_{false};
  std::string sentence_;  // written before lost_ becomes true, constant afterwards
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  double period_seconds_;
  std::thread thread_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_PEER_WATCHER_H_
