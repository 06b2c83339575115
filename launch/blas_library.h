// The matrix library that this process runs with, which is not the one it was built with where several are installed.
#ifndef ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_
#define ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_

#include <string>

namespace angel_ptm {

// "OpenBLAS 0.3.21, core SkylakeX, at most 128 threads": the core is the generation of CPUs whose code it chose.
std::string DescribeBlas();

// Threads of one process that may use it at one time: it was built with a table of that size. 0 if it does not say.
int BlasThreadsMax();

// The core that OpenBLAS should be told to take for a processor with these instructions, if `chosen` is for one without
// them; else empty.
std::string BetterBlasCore(const std::string& chosen, bool has_avx2, bool has_avx512);

// The same of the core that it has chosen and of this machine's processor. It takes an Intel processor newer than
// itself for a Pentium 4, and its products then run at a fraction of their speed.
std::string BetterBlasCore();

// The number behind MAX_THREADS= in what openblas_get_config says; 0 if there is none.
int ThreadsInBlasConfig(const std::string& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_
