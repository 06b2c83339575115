// The library behind the CPU backend's matrix products, as it runs on this machine.
#ifndef ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_
#define ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_

#include <string>

namespace angel_ptm {

// For example "OpenBLAS 0.3.21 SkylakeX": the version, and the kernels that the library chose for this processor. Both
// are part of the numerics: another choice gives other last bits.
std::string MatrixLibrary();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_
