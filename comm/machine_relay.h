// How the machines of a run hear of each other. One thread per machine sends its ranks' rows of the progress board to
// the hub, the machine of rank 0, in one datagram or a few, and gets the hub's rows in answer. Both sides mirror what
// they hear on their boards, where watchers judge it like the rows of their own machine (peer_judge.h): the hub's
// watchers judge all ranks, other watchers those of their own machine and of the hub. The sentence that ends the run
// travels in both directions, so that every board has the first one. A relay judges nothing itself; where it fails, the
// ranks that it reports merely fall silent.
//
// Cost: per machine and period, one datagram each way for every seven ranks. The run's token keeps out datagrams of
// other runs; it does not stop an attacker.
#ifndef ANGEL_PTM_COMM_MACHINE_RELAY_H_
#define ANGEL_PTM_COMM_MACHINE_RELAY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "angel_ptm/base/status.h"
#include "comm/progress_board.h"
#include "comm/udp_socket.h"

namespace angel_ptm {

// What the other machines must know about the hub. Trivially copyable, so that it can be sent.
struct RelayHub {
  static constexpr size_t kAddressesMax = 16;

  uint64_t token = 0;
  int64_t address_count = 0;
  std::array<UdpAddress, kAddressesMax> addresses = {};
};

class MachineRelay {
 public:
  static constexpr double kPeriodSeconds = 0.5;

  // On the machine of rank 0. Relays until it is destroyed. kUnavailable where there is no UDP.
  static absl::StatusOr<std::unique_ptr<MachineRelay>> AtHub(std::shared_ptr<ProgressBoard> board);
  // On any other machine. Sends all rows of the board that its own ranks have published, including those published
  // later.
  static absl::StatusOr<std::unique_ptr<MachineRelay>> ToHub(std::shared_ptr<ProgressBoard> board, const RelayHub& hub,
                                                             double period_seconds = kPeriodSeconds);
  ~MachineRelay();

  const RelayHub& hub() const { return hub_; }

  // Not at the hub: waits for the hub's first answer, for which the relay asks often. kUnavailable if none comes within
  // `seconds`.
  absl::Status AwaitHub(double seconds);

 private:
  using Datagram = std::vector<std::byte>;

  MachineRelay(std::shared_ptr<ProgressBoard> board, std::unique_ptr<UdpSocket> socket, bool is_hub,
               double period_seconds);
  void Start();
  void Run();
  // The rows of this machine's ranks, at least one datagram.
  std::vector<Datagram> Rows();
  Datagram Verdict(const std::string& sentence) const;
  void Take(const UdpAddress& from, std::span<const std::byte> datagram);
  void TakeRows(std::span<const std::byte> datagram);
  // At the hub: answers a datagram that came with this path with the rows and, if there is one, the verdict.
  void Answer(const UdpAddress& to, int path);
  // Sends the rows to the hub: on the path that was answered last, or on all paths where no answer comes.
  void Report();
  // Sends the verdict as soon as there is one: to the hub or, at the hub, to every machine heard from.
  void SpreadVerdict();
  void SendToHub(const std::vector<Datagram>& datagrams);

  const std::shared_ptr<ProgressBoard> board_;
  const std::unique_ptr<UdpSocket> socket_;
  const bool is_hub_;
  const double period_seconds_;
  RelayHub hub_;
  std::array<char, 64> host_ = {};
  // The members down to verdict_spread_ belong to the thread.
  std::map<int, UdpAddress> machines_;  // at the hub: where each machine was last heard from, by its first rank
  std::vector<Datagram> rows_;          // at the hub: what answers contain, as of rows_seconds_
  double rows_seconds_ = -1;
  int path_ = -1;  // index of the hub's address from which an answer came
  double answered_seconds_ = -1;
  bool verdict_spread_ = false;

  std::atomic<bool> stopping_{false}, answered_{false};
  std::thread thread_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MACHINE_RELAY_H_
