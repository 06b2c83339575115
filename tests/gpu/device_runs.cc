// Implements tests/cuda_emulation/emulator.h on a GPU: kernels run on the default stream, and every launch is awaited.
// Each array lies between guards, whose bytes kernels must not change.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/gpu/gpu.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::size_t kGuardBytes = 512;
constexpr std::byte kPoison{0xff};
constexpr int kRepeats = 50;

class DeviceMemory {
 public:
  static DeviceMemory& Get() {
    static DeviceMemory memory;
    return memory;
  }

  // A GPU that has failed stays failed, so no later result would mean anything.
  void Check(DeviceCode code, const char* what) {
    const absl::Status status = device_.Check(code, what);
    APTM_CHECK(status.ok(), std::string(status.message()));
  }
  void Copy(void* to, const void* from, std::size_t bytes) {
    Check(device_.api().CopyAsync(to, from, static_cast<std::int64_t>(bytes), nullptr), "a copy");
    Await("a copy");
  }
  void Await(const char* what) { Check(device_.api().SynchronizeStream(nullptr), what); }

  void* Allocate(std::size_t bytes) {
    void* memory = nullptr;
    const auto all = static_cast<std::int64_t>(bytes + 2 * kGuardBytes);
    Check(device_.api().Malloc(&memory, all), "an array");
    Check(device_.api().FillAsync(memory, static_cast<int>(kPoison), all, nullptr), "filling an array");
    Await("filling an array");
    std::byte* const array = static_cast<std::byte*>(memory) + kGuardBytes;
    arrays_[array] = bytes;
    return array;
  }
  void Free(void* array) {
    arrays_.erase(static_cast<std::byte*>(array));
    Check(device_.api().Free(static_cast<std::byte*>(array) - kGuardBytes), "giving an array back");
  }
  std::vector<Finding> BrokenGuards() {
    std::vector<Finding> findings;
    std::vector<std::byte> guard(kGuardBytes);
    for (const auto& [array, bytes] : arrays_) {
      for (const std::byte* const at : {array - kGuardBytes, array + bytes}) {
        Copy(guard.data(), at, kGuardBytes);
        const auto broken = std::find_if(guard.begin(), guard.end(), [](std::byte b) { return b != kPoison; });
        if (broken == guard.end()) continue;
        findings.push_back({Fault::kOutOfBounds,
                            absl::StrCat("byte ", at - array + (broken - guard.begin()), " of a device array of ",
                                         bytes, " was written"),
                            nullptr});
      }
    }
    return findings;
  }

 private:
  DeviceMemory() : device_(**TestGpu()) { Check(device_.api().SetDevice(0), "choosing it"); }

  Device& device_;
  std::map<std::byte*, std::size_t> arrays_;
};

}  // namespace

std::vector<Schedule> Schedules(int) {
  std::vector<Schedule> repeats;
  for (std::uint64_t repeat = 1; repeat <= kRepeats; ++repeat) repeats.push_back({Order::kInTurn, repeat});
  return repeats;
}

std::vector<Finding> Emulate(const Schedule&, const std::function<void()>& launches) {
  DeviceMemory& memory = DeviceMemory::Get();
  launches();
  memory.Await("a kernel");
  return memory.BrokenGuards();
}

void* AllocateDevice(std::size_t bytes) { return DeviceMemory::Get().Allocate(bytes); }
void FreeDevice(void* memory) { DeviceMemory::Get().Free(memory); }
void WriteDevice(void* to, const void* from, std::size_t bytes) { DeviceMemory::Get().Copy(to, from, bytes); }
void ReadDevice(void* to, const void* from, std::size_t bytes) { DeviceMemory::Get().Copy(to, from, bytes); }

}  // namespace angel_ptm::emulated
