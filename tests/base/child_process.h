// Child processes for tests of what a process cannot undo: losing root's powers, failing system calls, being killed.
#ifndef ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_
#define ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <string>

namespace angel_ptm {

// Runs `body` in a child process; EXPECT and ASSERT work in it and fail this test too.
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

// The same as a user for whom permissions hold, which are not root's business. `directory` is given to that user.
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

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_BASE_CHILD_PROCESS_H_
