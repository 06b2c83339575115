// How a rank waits for its peers.
#ifndef ANGEL_PTM_COMM_WAIT_OPTIONS_H_
#define ANGEL_PTM_COMM_WAIT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <limits>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

struct WaitOptions {
  // A wait in a call that lasts longer than this (in this rank's running time, running_time.h) ends the call with
  // kUnavailable. Waiting is not silence: where a PeerWatcher sees the peers' signs of life, leave the limit to it
  // (kForever).
  double timeout_seconds = 300.0;
  // How long a waiting rank spins before it leaves its core to others (the compute lane may need it).
  int64_t spin_us = 20;
  // Called about every kPollSeconds while waiting, with the running time waited so far; an error ends the call with
  // kUnavailable and the error's message. As a rule PeerWatcher::Poll. May be empty. Threads that wait in different
  // communicators of a rank call it at the same time.
  std::function<absl::Status(double waited_seconds)> poll;

  static constexpr double kPollSeconds = 0.05;
  static constexpr double kForever = std::numeric_limits<double>::infinity();
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_WAIT_OPTIONS_H_
