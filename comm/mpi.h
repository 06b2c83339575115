// Ranks as processes started by mpirun.
//
// Transports: "direct reads" (mpi_node.h) when all ranks are on one machine that lets them map each other's memory:
// data is copied once, waiting costs no CPU, and MPI is used only to meet. Otherwise "messages" (mpi_messages.h), whose
// groups inside a machine (nodes.h) use direct reads, too. Both give the same bits.
//
// Start-up has a deadline from MPI_Init on: ranks meet through messages (mpi_meeting.h), never in MPI's own
// collectives. When a rank dies, mpirun sends SIGTERM to the others immediately and SIGKILL a few seconds later, on
// every host. A process that does not die from SIGTERM (the trainer's handler sets a flag) can use the time in between
// to say which rank died and where, from its PeerWatcher (peer_watcher.h). A dead peer on another host is noticed by
// mpirun, a silent one by the relay (mpi_relay.h), or by the timeout where there is no relay.
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
  // meetings wait for a rank that does not come.
  static absl::StatusOr<std::unique_ptr<MpiWorld>> Init(double limit_seconds);
  // Start and FindMachines are Init in two parts, for callers that must end the process in an orderly way when the
  // ranks do not meet. MPI's own initialisation waits for a lost rank forever: if it has not returned within
  // init_seconds, on_stuck is called on another thread and must end the process.
  static absl::StatusOr<std::unique_ptr<MpiWorld>> Start(double limit_seconds, double init_seconds,
                                                         const std::function<void()>& on_stuck);
  // Finds out which ranks share a machine. All ranks call it together. as_if_on: for tests, a name for this rank's
  // machine in addition to its own.
  absl::Status FindMachines(std::string_view as_if_on = "");

  // Finalises MPI, which waits for all ranks to get here. After an error, call Abort instead.
  ~MpiWorld();

  int rank() const { return rank_; }
  int size() const { return size_; }
  // This rank's place among the ranks of its machine.
  int node_rank() const { return node_rank_; }
  int node_size() const { return node_size_; }
  int node_count() const { return node_count_; }
  // The lowest rank of this machine.
  int node_first() const { return node_first_; }
  // Whether all machines have the same number of ranks and each machine's ranks are numbered consecutively.
  bool nodes_are_regular() const { return nodes_are_regular_; }

  // The most that one message moves: counts are int, one system call moves less than 2^31 bytes, and a piece of this
  // size takes only seconds on a slow network, so that a transfer in progress is not mistaken for silence.
  static constexpr int64_t kTransferBytesMax = int64_t{256} << 20;

  // Creates a communicator of all ranks with its own message space. All ranks call Create together. The world must
  // outlive the communicator. kAuto uses direct reads where they work: between all ranks or, with several machines,
  // inside each of them. Asking for kDirectReads where they do not work is an error. What is longer than
  // transfer_bytes_max is transferred in pieces; tests make them short.
  absl::StatusOr<std::unique_ptr<Communicator>> Create(WaitOptions options, MpiTransport transport,
                                                       int64_t transfer_bytes_max = kTransferBytesMax);

  // The transport that the newest communicator uses, e.g. "direct reads" or "messages (the ranks are on 2 machines)".
  const std::string& transport_description() const { return transport_description_; }

  // Creates memory that the ranks of this machine share, one piece per machine. All ranks call it together, and all
  // fail if one does.
  absl::StatusOr<std::unique_ptr<SharedMemory>> ShareMemory(int64_t bytes);

  // Blocks until all ranks have called it: for start-up and the end.
  absl::Status Meet(const std::string& what) { return meeting_.Meet(what); }
  MpiMeeting& meeting() { return meeting_; }

  // Immediately ends this process and, through mpirun, all others, with this exit code.
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
