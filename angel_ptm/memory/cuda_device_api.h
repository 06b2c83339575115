// The GPU through CUDA's runtime. The runtime is linked into the program and looks for the driver when it is first
// called, so the program starts on machines without a driver.
#ifndef ANGEL_PTM_MEMORY_CUDA_DEVICE_API_H_
#define ANGEL_PTM_MEMORY_CUDA_DEVICE_API_H_

#include <memory>

#include "angel_ptm/memory/device_api.h"

namespace angel_ptm {

// Null in a build without CUDA.
std::unique_ptr<DeviceApi> MakeCudaDeviceApi();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_CUDA_DEVICE_API_H_
