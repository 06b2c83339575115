// How the threads of a team wait for each other.
#ifndef ANGEL_PTM_LAUNCH_THREAD_WAIT_H_
#define ANGEL_PTM_LAUNCH_THREAD_WAIT_H_

namespace angel_ptm {

// Makes the teams of kernels ask for each other's end about a thousand times, some ten microseconds, and then sleep.
// libgomp's own default is 300,000 times, up to 18 ms with the core taken: on a machine that another process shares,
// two threads of a team on one core then each spend most of their turns waiting for the other to get one. libgomp reads
// this when it is loaded, before main: so the program starts itself again, once, in the same process. Returns without
// doing so where the environment already says how to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT), and with a warning if it
// cannot.
void LetTeamsSleep(char** argv);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_THREAD_WAIT_H_
