// Sabotage cases of law 1 on a device: faults of a runtime are planted in the fake device's calls, and the comparison
// of device_parity_test.cc must find them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/step_block.h"
#include "tests/laws/in_child.h"
#include "tests/laws/parity.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

// A device whose faults begin with training, after the state is initialised.
struct FaultyDevice : FakeDevice {
  using FakeDevice::FakeDevice;
  bool Training() const { return kernels_launched() > 0; }
};

// No stream waits for an event.
struct MissingEventWait : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode StreamWaitEvent(void*, void*) override { return kDeviceSuccess; }
};

// The host does not wait for the stream: it reads sums, sends gradients and returns outputs before they are there.
struct EarlyHostRead : FaultyDevice {
  using FaultyDevice::FaultyDevice;
  DeviceCode SynchronizeStream(void* stream) override {
    return Training() ? kDeviceSuccess : FakeDevice::SynchronizeStream(stream);
  }
};

// Events count as reached as soon as they are recorded, so host lanes do not wait for streams.
struct EventNotAwaited : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode QueryEvent(void*) override { return kDeviceSuccess; }
  DeviceCode SynchronizeEvent(void*) override { return kDeviceSuccess; }
  DeviceCode ElapsedMilliseconds(float* milliseconds, void*, void*) override {
    *milliseconds = 0;
    return kDeviceSuccess;
  }
};

// Has a stream unknown to the program: it waits for no other stream, and none waits for it.
struct WithStrayStream : FaultyDevice {
  explicit WithStrayStream(FakeDeviceOptions options) : FaultyDevice(std::move(options)) {
    FakeDevice::CreateStream(&stray_);
  }
  void* stray_ = nullptr;
};

struct CopyOnTheWrongStream : WithStrayStream {
  using WithStrayStream::WithStrayStream;
  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) override {
    return FakeDevice::CopyAsync(dst, src, bytes, Training() ? stray_ : stream);
  }
};

struct KernelOnTheWrongStream : WithStrayStream {
  using WithStrayStream::WithStrayStream;
  void* StreamOfKernel(void*) override { return stray_; }
};

// The event after a copy is reached before the copy is done, so the copy's source buffer is overwritten too early.
struct BufferReusedBeforeTheCopy : WithStrayStream {
  using WithStrayStream::WithStrayStream;
  DeviceCode RecordEvent(void* event, void*) override { return FakeDevice::RecordEvent(event, stray_); }
};

// Copies run as soon as they are enqueued, ahead of earlier work on their stream.
struct CopyAheadOfItsStream : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void*) override {
    CopyNow(dst, src, bytes);
    return kDeviceSuccess;
  }
};

// A step's sums and the padding between parameters are not cleared.
struct MemoryNotCleared : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode FillAsync(void* dst, int value, int64_t bytes, void* stream) override {
    const bool arena = ++clears_ <= 2;  // as those of arenas, before the first step
    return arena ? FakeDevice::FillAsync(dst, value, bytes, stream) : kDeviceSuccess;
  }
  int clears_ = 0;
};

// Updates use the learning rate and the clip factor of an earlier step.
struct StaleDecision : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) override {
    if (bytes == sizeof(UpdateDecision) && ++decisions_ > 1) return kDeviceSuccess;
    return FakeDevice::CopyAsync(dst, src, bytes, stream);
  }
  int decisions_ = 0;
};

// Launches the previously launched graph, which belongs to another run or variant, in place of the requested one.
struct AnotherGraph : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode LaunchGraph(void* graph, void* stream) override {
    std::swap(graph, last_);
    return FakeDevice::LaunchGraph(graph == nullptr ? last_ : graph, stream);
  }
  void* last_ = nullptr;
};
struct GraphNotLaunched : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode LaunchGraph(void* graph, void* stream) override {
    return ++launches_ % 5 == 0 ? kDeviceSuccess : FakeDevice::LaunchGraph(graph, stream);
  }
  int launches_ = 0;
};

// Drops the last bytes of large copies.
struct ShortCopy : FakeDevice {
  using FakeDevice::FakeDevice;
  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) override {
    return FakeDevice::CopyAsync(dst, src, bytes >= 4096 ? bytes - 4 : bytes, stream);
  }
};

struct Fault {
  std::string name;
  std::function<std::unique_ptr<DeviceApi>(FakeDeviceOptions)> make;
  int budget_percent = 60;
};
template <typename Api>
Fault FaultOf(std::string name, int budget_percent = 60) {
  return {std::move(name), [](FakeDeviceOptions options) { return std::make_unique<Api>(std::move(options)); },
          budget_percent};
}
void PrintTo(const Fault& fault, std::ostream* os) { *os << fault.name; }

// What the comparison says of two ranks on such devices; "" if it finds nothing.
std::string Verdict(const Fault& fault, bool moe, unsigned seed) {
  const TemporaryFolder folder;
  const PlantFault on_device = [&](TinyRun& run) {
    run.device_kernels = &FakeDeviceKernels();
    run.device = [&fault, seed](int rank) { return fault.make({.seed = seed + static_cast<unsigned>(rank)}); };
  };
  ParityMatrix matrix(
      2, [](const TinyRun& run) { return TrainLocally(run, 2); }, folder.path(), /*compares=*/true, on_device);
  return std::string(matrix.Check({.moe = moe, .zero_stage = 3, .budget_percent = fault.budget_percent}).message());
}

// The same in a process of its own: uninitialised numbers may make a kernel access unmapped memory or overwrite the
// heap.
std::string Finds(const Fault& fault, bool moe, unsigned seed) {
  return InChild([&] { return Verdict(fault, moe, seed); });
}

class DeviceFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(DeviceFaultTest, IsFound) {
  for (const bool moe : {false, true}) {
    const std::string found = Finds(GetParam(), moe, /*seed=*/1);
    EXPECT_THAT(found, testing::ContainsRegex("^loss of step|^norm of step|^parameters of unit|^moments of unit|"
                                              "^rank [0-9]+'s copy of|^signal (6|11)$"));
    std::printf("  %s: %s\n", moe ? "MoE" : "dense", found.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, DeviceFaultTest,
    testing::Values(FaultOf<MissingEventWait>("MissingEventWait"), FaultOf<EarlyHostRead>("EarlyHostRead"),
                    FaultOf<EventNotAwaited>("EventNotAwaited"), FaultOf<CopyOnTheWrongStream>("CopyOnTheWrongStream"),
                    FaultOf<KernelOnTheWrongStream>("KernelOnTheWrongStream"),
                    FaultOf<BufferReusedBeforeTheCopy>("BufferReusedBeforeTheCopy"),
                    FaultOf<CopyAheadOfItsStream>("CopyAheadOfItsStream"),
                    FaultOf<MemoryNotCleared>("MemoryNotCleared"),
                    FaultOf<StaleDecision>("StaleDecision", /*budget_percent=*/100), FaultOf<ShortCopy>("ShortCopy"),
                    FaultOf<AnotherGraph>("AnotherGraph"), FaultOf<GraphNotLaunched>("GraphNotLaunched")),
    [](const auto& test) { return test.param.name; });

TEST(DeviceFaultControlTest, NoFaultIsNotFound) {
  for (const bool moe : {false, true}) EXPECT_EQ(Finds(FaultOf<FakeDevice>("none"), moe, /*seed=*/1), "");
}

}  // namespace
}  // namespace angel_ptm
