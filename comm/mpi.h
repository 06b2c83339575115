// Ranks as processes started by mpirun.
//
// Transports: "direct reads" when all ranks are on one machine that lets them map each other's memory (mpi_node.h): one
// copy, waiting costs no CPU, MPI is used only to meet. Otherwise "messages" (mpi_messages.h), whose groups inside a
// machine (nodes.h) read directly, too. Both give the same bits.
//
// Start-up has a deadline from MPI_Init on: ranks meet by messages (mpi_meeting.h), no collective of MPI's own is used.
// When a rank dies: mpirun sends SIGTERM to the others at once and SIGKILL a few seconds later, on every host. A
// process that does not die from SIGTERM (the trainer's handler sets a flag) has the time between to say which rank
// died and where, from its PeerWatcher (peer_watcher.h). A dead peer on another host is noticed by mpirun, a silent one
// by the relay (mpi_relay.h), or by the timeout where there is none.
#ifndef ANGEL_PTM_COMM_MPI_H_
#define ANGEL_PTM_COMM_MPI_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "comm/mpi_meeting.h"
#include "comm/shared_memory.h"
#include "comm/wait_options.h"

namespace angel_ptm {

enum class MpiTransport { kAuto, kDirectReads, kMessages };

class MpiWorld {
 public:
  // Initialises MPI with thread support MPI_THREAD_MULTIPLE; once per process. limit_seconds: how long this and later
  // meetings of the ranks wait for one that does not come.
  static absl::StatusOr<std::unique_ptr<MpiWorld>> Init(double limit_seconds);
  // Init in two parts, for who must end the process in order when the ranks do not meet. MPI's own initialisation waits
  // for a lost rank for ever: on_stuck is called, from another thread, when it has not returned within init_seconds,
  // and ends the process.
  static absl::StatusOr<std::unique_ptr<MpiWorld>> Start(double limit_seconds, double init_seconds,
                                                         const std::function<void()>& on_stuck);
  // as_if_on: for tests, a name for this rank's machine besides its own. All ranks call it together.
  absl::Status FindMachines(std::string_view as_if_on = "");

  // Finalises MPI: waits for all ranks to get here. After an error end with Abort instead.
  ~MpiWorld();

  int rank() const { return rank_; }
  int size() const { return size_; }
  // This rank among the ranks of its machine.
  int node_rank() const { return node_rank_; }
  int node_size() const { return node_size_; }
  int node_count() const { return node_count_; }
  // The lowest rank of this machine.
  int node_first() const { return node_first_; }
  // Whether all machines have equally many ranks, each numbered one after another.
  bool nodes_are_regular() const { return nodes_are_regular_; }

  // The most that one message or one read moves: counts are int, one system call moves less than 2^31 bytes, and a
  // piece this long takes only seconds on a slow network, so that silence is not mistaken for work.
  static constexpr int64_t kTransferBytesMax = int64_t{256} << 20;

  // A communicator of all ranks, with its own message space; all ranks call Create together. The world must outlive it.
  // kAuto takes direct reads where they work, of several machines inside each; asking for them where they don't is an
  // error. What is longer than transfer_bytes_max is worked off in pieces; tests make them short.
  absl::StatusOr<std::unique_ptr<Communicator>> Create(WaitOptions options, MpiTransport transport,
                                                       int64_t transfer_bytes_max = kTransferBytesMax);

  // The transport that the newest communicator uses, e.g. "direct reads" or "messages (the ranks are on 2 machines)".
  const std::string& transport_description() const { return transport_description_; }

  // Memory that the ranks of this machine share, one piece per machine; all ranks call it together, and all fail where
  // one does.
  absl::StatusOr<std::unique_ptr<SharedMemory>> ShareMemory(int64_t bytes);

  // Blocks until all ranks call it: for start-up and the end.
  absl::Status Meet(const std::string& what) { return meeting_.Meet(what); }
  MpiMeeting& meeting() { return meeting_; }

  // Ends this process and, through mpirun, all others with this exit code, at once.
  [[noreturn]] void Abort(int exit_code);

 private:
  MpiWorld(int rank, int size, double limit_seconds);

  const int rank_, size_;
  int node_rank_ = 0, node_size_ = 1, node_count_ = 1, node_first_ = 0;
  bool nodes_are_regular_ = true;
  MpiMeeting meeting_;
  std::vector<int> first_of_node_;  // on rank 0, by rank: the first rank of its machine
  int next_message_tag_;
  const std::shared_ptr<int> next_group_tag_;  // of this rank
  std::string transport_description_ = "none";
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_H_
