#include "tests/laws/in_child.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

std::string InChild(const std::function<std::string()>& speak, unsigned seconds_max) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds_max);
    const std::string said = speak();
    _exit(write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string said;
  char some[512];
  for (ssize_t n = 0; (n = read(ends[0], some, sizeof(some))) > 0;) said.append(some, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return absl::StrCat("signal ", WTERMSIG(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return said;
}

}  // namespace angel_ptm
