// The peak speed of matrix products, against which a run's speed is measured.
#ifndef ANGEL_PTM_TRAIN_MATRIX_PEAK_H_
#define ANGEL_PTM_TRAIN_MATRIX_PEAK_H_

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/memory/device.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// Returns the FLOP/s of the backend's matrix product on 1024 x 1024 operands of `type`: the best of a few runs within
// about a quarter of a second.
double MeasureMatrixPeak(const KernelTable& kernels, DType type, int threads);

// The same on a GPU. The operands are as large as its free memory allows, up to 8192 x 8192, so that a product takes
// some milliseconds. Returns 0 if the kernels do not run the product, or the GPU has failed.
double MeasureMatrixPeak(const KernelTable& kernels, DType type, Device& device);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_MATRIX_PEAK_H_
