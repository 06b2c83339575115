#include "angel_ptm/memory/cuda_device_api.h"

namespace angel_ptm {

std::unique_ptr<DeviceApi> MakeCudaDeviceApi() { return nullptr; }

}  // namespace angel_ptm
