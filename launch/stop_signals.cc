#include "launch/stop_signals.h"

#include <csignal>
#include <cstdint>
#include <ctime>

namespace angel_ptm {
namespace {

std::atomic<bool> stop_requested = false;
std::atomic<int64_t> first_end_request = 0;  // in nanoseconds of the monotonic clock; 0: none yet
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

constexpr int64_t kSameRequestNanoseconds = 1'000'000'000;

// Only makes calls that are allowed in a signal handler.
void HandleSignal(int signal) {
  stop_requested.store(true);
  if (signal != SIGTERM && signal != SIGINT) return;
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  const int64_t now = int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  int64_t first = 0;
  if (first_end_request.compare_exchange_strong(first, now) || now - first < kSameRequestNanoseconds) return;
  struct sigaction end = {};
  end.sa_handler = SIG_DFL;
  sigaction(signal, &end, nullptr);
  raise(signal);  // delivered when this handler returns
}

}  // namespace

void InstallStopSignals() {
  struct sigaction action = {};
  action.sa_handler = HandleSignal;
  action.sa_flags = SA_RESTART;  // the run polls the request between micro-batches, so no call has to be interrupted
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXCPU}) {
    struct sigaction inherited = {};
    sigaction(signal, nullptr, &inherited);
    if (signal == SIGHUP && inherited.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
}

std::atomic<bool>& StopRequested() { return stop_requested; }

}  // namespace angel_ptm
