// How a rank waits for its peers.
#ifndef ANGEL_PTM_COMM_WAIT_OPTIONS_H_
#define ANGEL_PTM_COMM_WAIT_OPTIONS_H_

#include <cstdint>
#include <functional>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

struct WaitOptions {
  // A peer that takes no part in a call for this long ends the call with kUnavailable.
  double timeout_seconds = 300.0;
  // Busy waiting before a waiting rank leaves its core to others (the compute lane may need it).
  int64_t spin_us = 20;
  // Asked at least every kPollSeconds while waiting; an error ends the call with kUnavailable and its message. This is
  // how a watcher that saw a peer die (peer_watcher.h) or a signal handler's flag reaches a blocked rank. May be empty.
  std::function<absl::Status()> poll;

  static constexpr double kPollSeconds = 0.05;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_WAIT_OPTIONS_H_
