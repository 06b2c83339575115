#include "tests/support/fake_device_kernels.h"

#include <functional>

#include "tests/support/fake_device_table.h"

namespace angel_ptm {
namespace {

struct HostKernels {
  static const KernelTable& Table() { return CpuKernels(); }
  static void Run(const std::function<void()>& kernel) { kernel(); }
};

}  // namespace

const KernelTable& FakeDeviceKernels() {
  static const KernelTable table = FakeDeviceTable<HostKernels>::Make("fake device", 256);
  return table;
}

}  // namespace angel_ptm
