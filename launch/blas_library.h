// The matrix library that this process uses. If several are installed, it may differ from the one used for the build.
#ifndef ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_
#define ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_

#include <string>

namespace angel_ptm {

// "OpenBLAS 0.3.21, core SkylakeX, at most 128 threads". The core is the CPU generation whose code the library chose.
std::string DescribeBlas();

// How many threads of a process may use the library at the same time: it was built with a table of that size. 0 if
// unknown.
int BlasThreadsMax();

// The core that OpenBLAS should be told to use for a processor with these instructions, if `chosen` is a core without
// them; else empty.
std::string BetterBlasCore(const std::string& chosen, bool has_avx2, bool has_avx512);

// The same for the core that OpenBLAS chose on this machine. OpenBLAS takes an Intel processor newer than itself for a
// Pentium 4, and its products then run at a fraction of their speed.
std::string BetterBlasCore();

// The number after MAX_THREADS= in the text of openblas_get_config; 0 if there is none.
int ThreadsInBlasConfig(const std::string& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_BLAS_LIBRARY_H_
