// The CUDA kernels, emulated and checked, as the backend of a fake device: a run's own streams, waits and copies, and
// its own kernels. What another lane's work does to memory is not the emulator's business: races between lanes are
// found by bits (tests/laws/device_parity_test.cc).
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/gpu/trainer_cases.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_table.h"

namespace angel_ptm {
namespace {

// There is one emulator.
std::mutex& Emulator() {
  static std::mutex mutex;
  return mutex;
}

struct EmulatedKernels {
  static const KernelTable& Table() { return CudaKernels(); }
  static void Run(const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> lock(Emulator());
    for (const emulated::Finding& finding : emulated::Emulate({emulated::Order::kRandom, 1}, kernel)) {
      ADD_FAILURE() << finding.Describe();
    }
  }
};

// What the lanes copy there is written by no kernel: all of it counts as initialised.
std::byte* Allocate(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(Emulator());
  const auto size = static_cast<std::size_t>(bytes);
  void* const memory = emulated::AllocateDevice(size);
  emulated::WriteDevice(memory, std::vector<std::byte>(size, std::byte{0xff}).data(), size);
  return static_cast<std::byte*>(memory);
}
void Free(std::byte* memory) {
  const std::lock_guard<std::mutex> lock(Emulator());
  emulated::FreeDevice(memory);
}

}  // namespace

TrainerCases MakeTrainerCases() {
  static FakeDevice api({.memory_bytes = int64_t{256} << 20, .allocate = &Allocate, .free = &Free});
  static const KernelTable table = FakeDeviceTable<EmulatedKernels>::Make("emulated cuda", 64);
  return {.offer = [](int) { return DeviceOffer{.api = &api, .kernels = &table}; }};
}

}  // namespace angel_ptm
