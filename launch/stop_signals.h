// Signals that ask a run to save and end.
#ifndef ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_
#define ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_

#include <atomic>

namespace angel_ptm {

// Becomes true with the first SIGTERM, SIGINT, SIGUSR1, SIGHUP (unless it is ignored already, as under nohup) or
// SIGXCPU. A SIGTERM or SIGINT that comes a second or more after the first of these two ends the process at once, as if
// it had no handler: within the second it is taken for the same request, which launchers send more than once.
//
// mpirun passes SIGUSR1 on and waits; on SIGTERM it gives its ranks a second (its odls_base_sigkill_timeout) before it
// kills them.
void InstallStopSignals();

// Constant address: the trainer polls it.
std::atomic<bool>& StopRequested();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_STOP_SIGNALS_H_
