// A replacement of the C library's fsync that signals seem to interrupt as often as a test wants. Include it in one
// source of a program.
#ifndef ANGEL_PTM_TESTS_SUPPORT_INTERRUPTED_SYNC_H_
#define ANGEL_PTM_TESTS_SUPPORT_INTERRUPTED_SYNC_H_

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace angel_ptm {

// How many of the next calls fail with EINTR.
inline std::atomic<int> syncs_to_interrupt = 0;

}  // namespace angel_ptm

extern "C" int fsync(int fd) {
  if (angel_ptm::syncs_to_interrupt.load() > 0) {
    --angel_ptm::syncs_to_interrupt;
    return errno = EINTR, -1;
  }
  return static_cast<int>(syscall(SYS_fsync, fd));
}

#endif  // ANGEL_PTM_TESTS_SUPPORT_INTERRUPTED_SYNC_H_
