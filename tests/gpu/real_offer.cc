#include "kernels/cuda/cuda_kernels.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/trainer_cases.h"

namespace angel_ptm {

TrainerCases MakeTrainerCases() {
  DeviceApi& api = (*TestGpu())->api();
  return {.offer = [&api](int) { return DeviceOffer{.api = &api, .kernels = &CudaKernels()}; }, .is_thorough = true};
}

}  // namespace angel_ptm
