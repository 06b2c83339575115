#include "launch/library_environment.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "launch/blas_library.h"

namespace angel_ptm {
namespace {

constexpr char kCore[] = "OPENBLAS_CORETYPE", kSpins[] = "GOMP_SPINCOUNT", kWaitPolicy[] = "OMP_WAIT_POLICY";

bool IsSet(const char* variable) { return std::getenv(variable) != nullptr; }

// Sets a variable and adds it to `settings`, a text for people.
void Set(const char* variable, const std::string& value, std::string* settings) {
  setenv(variable, value.c_str(), 1);
  absl::StrAppend(settings, settings->empty() ? "" : " ", variable, "=", value);
}

}  // namespace

void SetLibraryEnvironment(bool with_teams, char** argv) {
  std::string settings;
  const std::string core = BetterBlasCore();
  if (!core.empty() && !IsSet(kCore)) Set(kCore, core, &settings);
  if (with_teams && !IsSet(kSpins) && !IsSet(kWaitPolicy)) Set(kSpins, "1000", &settings);
  if (settings.empty()) return;
  // Executed by its name, which tools show, and not as /proc/self/exe.
  char program[4096];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length > 0) {
    program[length] = '\0';
    execv(program, argv);
  }
  std::fprintf(stderr, "angel-ptm: warning: cannot restart %s with %s (%s), so it runs slower\n",
               length > 0 ? program : "the program", settings.c_str(), std::strerror(errno));
}

}  // namespace angel_ptm
