// Signals that ask a run to save and stop.
#ifndef ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_
#define ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_

#include <atomic>

namespace angel_ptm {

// Makes StopRequested() true at the first SIGTERM, SIGINT, SIGUSR1, SIGHUP (unless it is already ignored, as under
// nohup) or SIGXCPU. A SIGTERM or SIGINT that arrives a second or more after the first of these two ends the process
// immediately, as without a handler. Within that second it counts as the same request, since launchers send it more
// than once.
//
// mpirun forwards SIGUSR1 and waits. On SIGTERM it gives its ranks a second (its odls_base_sigkill_timeout) and then
// kills them.
void InstallStopSignals();

// The address is constant: the trainer polls it.
std::atomic<bool>& StopRequested();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_
