#include "launch/thread_wait.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace angel_ptm {

void LetTeamsSleep(char** argv) {
  constexpr char kSpins[] = "GOMP_SPINCOUNT";
  if (std::getenv(kSpins) != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv(kSpins, "1000", 1);
  // By its name, which tools show, not as /proc/self/exe.
  char program[4096];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length > 0) {
    program[length] = '\0';
    execv(program, argv);
  }
  std::fprintf(stderr,
               "angel-ptm: warning: cannot start %s again with %s=1000 (%s): threads that wait keep their cores\n",
               length > 0 ? program : "the program", kSpins, std::strerror(errno));
}

}  // namespace angel_ptm
