// Prepares the process before any command runs, and reports why it cannot continue: standard descriptors, signals that
// would end it silently, and sentences for what the C++ run time would answer with an abort.
#ifndef ANGEL_PTM_LAUNCH_PROCESS_H_
#define ANGEL_PTM_LAUNCH_PROCESS_H_

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Must be called before any file is opened or thread started.
// * Closed descriptors 0, 1 and 2 are occupied, so that no file of the run gets their numbers and with them what is
//   printed. Reading or writing such a descriptor fails as if it were closed (EBADF).
// * SIGPIPE and SIGXFSZ are ignored: the call fails instead if a reader has left or a file may not grow.
// * If the system refuses memory or threads, the process ends with one sentence and exit code 1.
void PrepareProcess();

// Threads of a rank besides those of its kernels: seven lanes, its own, the watcher of its peers, collectives between
// GPUs, and the relay to other machines. A lock-free update has seven lanes and a thread of its own.
inline constexpr int kOtherThreads = 11, kLockFreeThreads = 8;

// Checks that the process can have that many more threads at the same time, by starting and ending them, and the
// address space that matrix products on `kernel_threads` take. kResourceExhausted names the limits. Protects against
// libraries that end the process or retry forever when they get less than they ask for (OpenMP, OpenBLAS).
absl::Status CheckThreads(int kernel_threads, int other_threads);

// Flushes and closes standard output. kUnavailable: its reader has left. Other errors state the system's reason in a
// sentence.
absl::Status CloseStandardOutput();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_PROCESS_H_
