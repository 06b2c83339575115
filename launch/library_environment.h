// Settings that libraries read from the environment when they are loaded, before main.
#ifndef ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_
#define ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_

namespace angel_ptm {

// Sets the variables below that the environment does not set yet, and if any was set restarts the program once, in the
// same process:
//
// * OPENBLAS_CORETYPE, if the library has taken the processor for one without its instructions (blas_library.h).
// * GOMP_SPINCOUNT, if `with_teams`: the threads of kernels' teams wait for each other by spinning about a thousand
//   times, some ten microseconds, and then sleep. libgomp's default is 300,000 times, up to 18 ms during which the core
//   is taken. On a machine shared with another process, two threads of a team on one core would then spend most of
//   their turns waiting for the other to get one. OMP_WAIT_POLICY, if set, is respected, too.
//
// Returns if nothing had to be set, or with a warning if the program cannot be restarted. Must be called before
// anything else.
void SetLibraryEnvironment(bool with_teams, char** argv);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_
