// The library behind the CPU backend's matrix products, as it runs on this machine.
#ifndef ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_
#define ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_

#include <string>

namespace angel_ptm {

// "OpenBLAS 0.3.21 SkylakeX": version and the kernels that it has chosen for this processor. They are part of the
// numerics: another choice gives other last bits.
std::string MatrixLibrary();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_MATRIX_LIBRARY_H_
