// Runs tests in child processes, for what a process cannot undo: dropping root's powers, failing system calls, being
// killed.
#ifndef ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_
#define ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace angel_ptm {

// Runs `body` in a child process. EXPECT and ASSERT work in it, and their failures fail this test too.
inline void RunInChild(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    body();
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "in the child process; what it printed is above";
}

// The same as a user who is not root, so that permissions apply. `directory` is given to that user.
inline void RunUnprivileged(const std::string& directory, const std::function<void()>& body) {
  constexpr uid_t kNobody = 65534;
  RunInChild([&] {
    if (geteuid() == 0) {
      ASSERT_EQ(chown(directory.c_str(), kNobody, kNobody), 0);
      ASSERT_EQ(setgid(kNobody), 0);
      ASSERT_EQ(setuid(kNobody), 0);
    }
    body();
  });
}

// Makes every later system call `number` of this process fail with `error` if its argument number `argument` has this
// value. Returns false where the system does not allow that. Call it in child processes only: it cannot be undone.
inline bool FailSystemCall(int number, int argument, uint32_t value, int error) {
  const auto offset = static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * argument);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),  // the low half on little-endian machines
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Whether FailSystemCall works here; tries it in a child process.
inline bool SystemCallsCanFail() {
  const pid_t child = fork();
  if (child == 0) _exit(FailSystemCall(SYS_close, 0, UINT32_MAX, EINVAL) ? 0 : 1);
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_
