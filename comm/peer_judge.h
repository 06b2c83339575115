// Finds out, look by look, whether a rank died, is stopped or hangs, and says which rank it is and where it was. It
// judges ranks of this machine and those of other machines that are heard here (machine_relay.h), whose deaths show
// here only as silence. It depends on nothing but the board and /proc: the watcher's thread (peer_watcher.h) passes in
// the time, and tests pass in any.
#ifndef ANGEL_PTM_COMM_PEER_JUDGE_H_
#define ANGEL_PTM_COMM_PEER_JUDGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/progress_board.h"

namespace angel_ptm {

class PeerJudge {
 public:
  // Judges all ranks but `rank`. limit_seconds: how long a rank may be silent.
  PeerJudge(std::shared_ptr<const ProgressBoard> board, int rank, double limit_seconds);

  // `seconds`: running time (running_time.h) since the previous look. `waited_seconds`: how long this rank has been
  // waiting in its current call, 0 if it is in none. Returns what ends the run, or "" while nothing does:
  //   rank 1 (pid 4711 on host n1) died at step 12 in backward layer.3, unchanged for 0.3 s; rank 0 was at ...
  //   rank 1 (pid 4711 on host n1) is stopped at step 12 in backward layer.3 and gave no sign of life for 60.1 s
  //   (communication.timeout_seconds is 60); rank 0 waits for it at step 12 in all-gather layer.2
  //   the machine of rank 8 (pid 4711 on host n2) gave no sign of life for 60.1 s (...): it or its network is stopped
  //   or lost; the rank was at step 12 in backward layer.3; rank 0 waits for it at ...
  // A death is found at the first look at which the rank has not beaten since the previous look, so at the latest at
  // the second look after it. A silent rank ends the run only if this rank has also waited for longer than the limit:
  // where all ranks are slow, none is lost.
  std::string Look(double seconds, double waited_seconds);

  // "rank 1 (pid 4711 on host n1) died at step 12 in backward layer.3, unchanged for 0.3 s"
  static std::string Death(int rank, const RankProgress& progress);

 private:
  struct Peer {
    uint64_t signs = 0, beats = 0;  // seen at the last look
    double silent_seconds = 0;      // since its last sign of life
    double still_seconds = 0;       // since its last beat
    uint64_t heard = 0;
    double unheard_seconds = 0;  // since its machine was last heard, if it is remote
  };

  // How long a process may go without a beat, or a machine without a word, before it counts as not running or too busy
  // to tell.
  double StillSeconds() const;
  std::string Silence(int rank, const RankProgress& progress, const Peer& peer) const;

  const std::shared_ptr<const ProgressBoard> board_;
  const int rank_;
  const double limit_seconds_;
  std::vector<Peer> peers_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_PEER_JUDGE_H_
