#include "kernels/cpu/parallel.h"

#if defined(__SANITIZE_THREAD__)
// libgomp is not instrumented: without these marks ThreadSanitizer does not see that a team starts after its caller
// calls it and ends before the call returns.
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#define APTM_TEAM_ACQUIRE(address) __tsan_acquire(address)
#define APTM_TEAM_RELEASE(address) __tsan_release(address)
#else
#define APTM_TEAM_ACQUIRE(address) static_cast<void>(address)
#define APTM_TEAM_RELEASE(address) static_cast<void>(address)
#endif

namespace angel_ptm {

// Not instrumented itself, because the compiler reads the region's shared variables before the first mark.
__attribute__((no_sanitize("thread"), noinline)) void RunOnTeam(int parts, void (*body)(const void*, int),
                                                                const void* context) {
  char order = 0;
  char* const mark = &order;
  APTM_TEAM_RELEASE(mark);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    APTM_TEAM_ACQUIRE(mark);
    body(context, part);
    APTM_TEAM_RELEASE(mark);
  }
  APTM_TEAM_ACQUIRE(mark);
}

}  // namespace angel_ptm
