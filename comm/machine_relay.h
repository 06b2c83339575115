// How the machines of a run hear each other: one thread per machine sends what its ranks' rows of the progress board
// say to the hub, the machine of rank 0, in a datagram or a few, and gets the hub's in answer. Both mirror what they
// hear on their boards, where the watchers judge it like the rows of their own machine (peer_judge.h): the hub's
// watchers judge all ranks, the others those of their machine and of the hub. The sentence that ends the run travels
// both ways, so that every board has the first one. Silence is all that a relay leads to: it judges nothing itself.
//
// Cost: per machine and period one datagram each way for every seven ranks. The run's token keeps out what is not of
// this run, not an attacker.
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

// What the other machines must know of the hub. Trivially copyable, so that it can be sent.
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
  // On any other machine. Sends all rows of the board that its own ranks have published, also those that come later.
  static absl::StatusOr<std::unique_ptr<MachineRelay>> ToHub(std::shared_ptr<ProgressBoard> board, const RelayHub& hub,
                                                             double period_seconds = kPeriodSeconds);
  ~MachineRelay();

  const RelayHub& hub() const { return hub_; }

  // Not at the hub: waits for the hub's first answer, asking often; kUnavailable if none comes in so many seconds.
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
  // At the hub: the rows and the verdict, for a datagram that came with this path.
  void Answer(const UdpAddress& to, int path);
  // To the hub: on the path that was answered last, or on all where no answer comes.
  void Report();
  // At once when there is a verdict: to the hub, or to every machine heard of.
  void SpreadVerdict();
  void SendToHub(const std::vector<Datagram>& datagrams);

  const std::shared_ptr<ProgressBoard> board_;
  const std::unique_ptr<UdpSocket> socket_;
  const bool is_hub_;
  const double period_seconds_;
  RelayHub hub_;
  std::array<char, 64> host_ = {};
  // All of these belong to the thread.
  std::map<int, UdpAddress> machines_;  // at the hub: whence a machine was heard last, by its first rank
  std::vector<Datagram> rows_;          // at the hub: answers, as of rows_seconds_
  double rows_seconds_ = -1;
  int path_ = -1;  // of the hub's addresses, the one that was answered
  double answered_seconds_ = -1;
  bool verdict_spread_ = false;

  std::atomic<bool> stopping_{false}, answered_{false};
  std::thread thread_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MACHINE_RELAY_H_
