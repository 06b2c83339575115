// The backend of a FakeDevice: the host backend's kernels on the device's streams and memory, hence with the host's
// bits.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_KERNELS_H_
#define ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_KERNELS_H_

#include "kernels/kernels.h"

namespace angel_ptm {

const KernelTable& FakeDeviceKernels();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_KERNELS_H_
