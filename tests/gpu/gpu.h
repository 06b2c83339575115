// The GPU that the tests of this folder run on.
#ifndef ANGEL_PTM_TESTS_GPU_GPU_H_
#define ANGEL_PTM_TESTS_GPU_GPU_H_

#include "angel_ptm/base/status.h"
#include "angel_ptm/memory/device.h"

namespace angel_ptm {

// The first GPU, opened once; or the reason why there is none, in one sentence.
absl::StatusOr<Device*> TestGpu();
// The GPU's major compute capability.
int TestGpuMajor();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_GPU_GPU_H_
