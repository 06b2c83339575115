// Always-on assertions for conditions that only a bug can violate. A failed check prints file, line, condition and
// message to stderr and aborts the process (under mpirun this takes the job down).
#ifndef ANGEL_PTM_BASE_CHECK_H_
#define ANGEL_PTM_BASE_CHECK_H_

#include <string_view>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, std::string_view message);

}  // namespace angel_ptm

// APTM_CHECK(cond, parts...): the parts are joined with absl::StrCat only when the check fails.
#define APTM_CHECK(cond, ...)                                                                             \
  do {                                                                                                    \
    if (__builtin_expect(!(cond), 0))                                                                     \
      ::angel_ptm::CheckFailed(__FILE__, __LINE__, #cond, ::absl::StrCat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)

#endif  // ANGEL_PTM_BASE_CHECK_H_
