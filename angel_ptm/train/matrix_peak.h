// The speed of light a run's progress is measured against.
#ifndef ANGEL_PTM_TRAIN_MATRIX_PEAK_H_
#define ANGEL_PTM_TRAIN_MATRIX_PEAK_H_

#include "angel_ptm/base/dtype.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// FLOP/s of the backend's matrix product on 1024 x 1024 operands of `type`: the best of a few runs within about a
// quarter of a second.
double MeasureMatrixPeak(const KernelTable& kernels, DType type, int threads);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_MATRIX_PEAK_H_
