// What libraries read from the environment when they are loaded, before main.
#ifndef ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_
#define ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_

namespace angel_ptm {

// Sets what the environment does not say yet, and starts the program again, once, in the same process:
//
// * OPENBLAS_CORETYPE, where the library has taken the processor for one without its instructions (blas_library.h).
// * GOMP_SPINCOUNT, if `with_teams`: kernels' teams ask for each other's end about a thousand times, some ten
//   microseconds, and then sleep. libgomp's own default is 300,000 times, up to 18 ms with the core taken: on a machine
//   that another process shares, two threads of a team on one core then each spend most of their turns waiting for the
//   other to get one. OMP_WAIT_POLICY stands, too.
//
// Returns where nothing was to be set, and with a warning if the program cannot be started. Comes first of all.
void SetLibraryEnvironment(bool with_teams, char** argv);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_LIBRARY_ENVIRONMENT_H_
