// The CUDA kernels, emulated and checked, as the backend of a fake device. A run uses its own streams, waits, copies
// and kernels. The emulator does not check what other lanes do to memory: races between lanes are found by comparing
// bits (tests/laws/device_parity_test.cc).
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/gpu/trainer_cases.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_table.h"

namespace angel_ptm {
namespace {

// There is only one emulator, so its users take turns.
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

// Whole pages, as the fake device needs them, inside arrays of the emulator. The memory that lanes copy to is written
// by no kernel, so all of it counts as initialised.
class EmulatedMemory {
 public:
  std::byte* Allocate(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(Emulator());
    const auto size = static_cast<std::size_t>(bytes);
    void* const array = emulated::AllocateDevice(size + kPage);
    const auto page = (reinterpret_cast<std::uintptr_t>(array) + kPage - 1) / kPage * kPage;
    std::byte* const memory = reinterpret_cast<std::byte*>(page);
    emulated::WriteDevice(memory, std::vector<std::byte>(size, std::byte{0xff}).data(), size);
    arrays_[memory] = array;
    return memory;
  }
  void Free(std::byte* memory) {
    const std::lock_guard<std::mutex> lock(Emulator());
    emulated::FreeDevice(arrays_.at(memory));
    arrays_.erase(memory);
  }

 private:
  static constexpr std::uintptr_t kPage = 4096;
  std::map<std::byte*, void*> arrays_;
};

}  // namespace

TrainerCases MakeTrainerCases() {
  static EmulatedMemory memory;
  static FakeDevice api({.allocate = [](int64_t bytes) { return memory.Allocate(bytes); },
                         .free = [](std::byte* data) { memory.Free(data); }});
  static const KernelTable table = FakeDeviceTable<EmulatedKernels>::Make("emulated cuda", 64);
  return {.offer = [](int) { return DeviceOffer{.api = &api, .kernels = &table}; }};
}

}  // namespace angel_ptm
