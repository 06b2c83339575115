// Notices within a fraction of a second that a rank of this machine died or failed, and says which and where it was.
// Ranks on other machines, and processes of another PID namespace, are left to mpirun (which ends the job when any
// process dies) and to the collectives' timeout.
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
#include "comm/progress_board.h"

namespace angel_ptm {

class PeerWatcher {
 public:
  // Watches all ranks but `rank` from a thread of its own. on_death (may be empty) is called at most once, on that
  // thread, with a sentence like
  //   rank 1 (pid 4711 on host n1) died at step 12 in backward layer.3, unchanged for 0.3 s; rank 0 was at step 12 in
  //   all-gather layer.2, unchanged for 0.2 s
  // It is not called for a rank that failed: such a rank speaks for itself.
  PeerWatcher(std::shared_ptr<const ProgressBoard> board, int rank,
              std::function<void(std::string_view sentence)> on_death, double period_seconds = 0.2);
  ~PeerWatcher();

  // OK while all peers live; afterwards kUnavailable with the sentence. Use it as WaitOptions::poll, so that a rank
  // that waits for the lost one stops waiting. Any thread; one atomic load while all is well.
  absl::Status status() const;

  // For an error that a dying peer may have caused before this watcher looked: looks again, often, until a loss shows
  // or `seconds` have passed. Returns status(). Any thread.
  absl::Status AwaitLoss(double seconds);

 private:
  void Run();
  struct Loss {
    std::string sentence;  // empty if there is none
    bool died = false;     // else it failed
  };
  Loss Look() const;

  const std::shared_ptr<const ProgressBoard> board_;
  const int rank_;
  const std::function<void(std::string_view)> on_death_;
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
