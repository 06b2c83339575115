#include "launch/stop_signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

namespace angel_ptm {
namespace {

// Starts a process that installs the stop signals and waits, calls `ask` with its id, and lets it end once `ask`
// returns. Returns the signal that ended it, or minus its exit code: kAsked or kNotAsked.
int SignalThatEnds(const std::function<void(pid_t)>& ask, bool ignores_hangup = false) {
  int ready[2], end[2];
  EXPECT_EQ(pipe(ready), 0);
  EXPECT_EQ(pipe(end), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(end[1]);
    if (ignores_hangup) std::signal(SIGHUP, SIG_IGN);
    InstallStopSignals();
    char byte = 0;
    if (write(ready[1], &byte, 1) != 1) _exit(2);
    if (read(end[0], &byte, 1) == -1) _exit(3);  // a request to stop interrupts no call
    _exit(StopRequested().load() ? 1 : 0);
  }
  close(end[0]);
  char byte;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  ask(child);
  close(end[1]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  close(ready[0]);
  close(ready[1]);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}
constexpr int kAsked = -1;  // the process noticed the request and went on
constexpr int kNotAsked = 0;

TEST(StopSignalsTest, EachAsksOnceAndTheProcessLivesOn) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXCPU}) {
    EXPECT_EQ(SignalThatEnds([&](pid_t child) { kill(child, signal); }), kAsked) << strsignal(signal);
  }
}

TEST(StopSignalsTest, TheSecondEndsAtOnceThatIsNotTheSameRequest) {
  for (const int second : {SIGTERM, SIGINT}) {
    EXPECT_EQ(SignalThatEnds([&](pid_t child) {
                kill(child, SIGTERM);
                usleep(1'200'000);
                kill(child, second);
              }),
              second);
  }
}

TEST(StopSignalsTest, LaunchersThatRepeatThemselvesAndOtherSignalsEndNothing) {
  EXPECT_EQ(SignalThatEnds([](pid_t child) {
              for (const int signal : {SIGTERM, SIGTERM, SIGINT}) kill(child, signal);
            }),
            kAsked);
  EXPECT_EQ(SignalThatEnds([](pid_t child) {
              kill(child, SIGUSR1);
              kill(child, SIGHUP);
              usleep(1'200'000);
              kill(child, SIGHUP);
              kill(child, SIGTERM);
            }),
            kAsked);
}

TEST(StopSignalsTest, WhatIsStartedWithNohupOutlivesItsTerminal) {
  EXPECT_EQ(SignalThatEnds([](pid_t child) { kill(child, SIGHUP); }, /*ignores_hangup=*/true), kNotAsked);
}

}  // namespace
}  // namespace angel_ptm
