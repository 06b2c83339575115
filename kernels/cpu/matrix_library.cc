#include "kernels/cpu/matrix_library.h"

#include <cblas.h>

namespace angel_ptm {

std::string MatrixLibrary() {
  // For example "OpenBLAS 0.3.21 DYNAMIC_ARCH NO_AFFINITY ... MAX_THREADS=128"; the build options do not matter here.
  const std::string config = openblas_get_config();
  const size_t name = config.find(' ');
  const size_t version = name == std::string::npos ? name : config.find(' ', name + 1);
  return config.substr(0, version) + " " + openblas_get_corename();
}

}  // namespace angel_ptm
