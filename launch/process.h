// What the process gets before any command runs, and how it says that it cannot go on: the standard descriptors,
// signals that would end it without a word, and sentences for what the C++ run time would answer with an abort.
#ifndef ANGEL_PTM_LAUNCH_PROCESS_H_
#define ANGEL_PTM_LAUNCH_PROCESS_H_

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// To be called before any file is opened and any thread started.
// * Descriptors 0, 1 and 2 that are closed are taken, so that no file of a run gets their numbers and with them what is
//   printed. What reads or writes a descriptor taken so fails as on a closed one (EBADF).
// * SIGPIPE and SIGXFSZ are ignored: a reader that left and a file that may not grow are errors of the call.
// * Memory or threads that the system refuses end the process with one sentence and exit code 1.
void PrepareProcess();

// Threads of a rank beside those of its kernels: seven lanes, its own, what watches its peers, its collectives between
// GPUs, and what tells other machines of them. A lock-free update has seven lanes and a thread of its own.
inline constexpr int kOtherThreads = 11, kLockFreeThreads = 8;

// Whether the process can have so many more threads at one time, and the address space that matrix products of
// kernel_threads take: starts and ends them. kResourceExhausted names the limits. For libraries that end the process or
// try without end when they get less than they ask for (OpenMP, OpenBLAS).
absl::Status CheckThreads(int kernel_threads, int other_threads);

// Writes out what is left of standard output and closes it. kUnavailable: its reader has left; else what the system
// said, in a sentence.
absl::Status CloseStandardOutput();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_PROCESS_H_
