// CUDA's runtime behaves as memory/device.h requires; tests/memory/device_test.cc shows the same of the fake.
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <vector>

#include "angel_ptm/memory/device.h"
#include "tests/gpu/gpu.h"
#include "tests/support/or_die.h"

namespace angel_ptm {
namespace {

TEST(GpuDeviceTest, AnArenaIsZeroAndKeepsWhatIsWritten) {
  const std::unique_ptr<Tier> tier = OrDie(MakeDeviceArena(*OrDie(TestGpu()), 8192));
  std::vector<int> values(64), read(64, -1);
  OrDie(tier->Read(4096, read.data(), 256));
  EXPECT_EQ(read, values);
  std::iota(values.begin(), values.end(), 0);
  OrDie(tier->Write(4096, values.data(), 256));
  OrDie(tier->Read(4096, read.data(), 256));
  EXPECT_EQ(read, values);
}

// Copies of 64 MiB, so that a stream that did not wait would show.
TEST(GpuDeviceTest, AStreamFollowsWhatWasRecordedOnAnother) {
  constexpr int64_t kBytes = int64_t{64} << 20, kLast = kBytes / 8 - 1;
  Device& device = *OrDie(TestGpu());
  const auto first = OrDie(DeviceStream::Create(device)), second = OrDie(DeviceStream::Create(device));
  const auto event = OrDie(DeviceEvent::Create(device));
  const auto memory = OrDie(device.Memory(kBytes, "a test"));
  const auto source = OrDie(device.LockedMemory(kBytes, "a test")), sink = OrDie(device.LockedMemory(kBytes, "a test"));
  for (int i = 1; i <= 20; ++i) {
    reinterpret_cast<double*>(source.get())[kLast] = i;
    OrDie(first->Copy(memory.get(), source.get(), kBytes));
    OrDie(first->Record(*event));
    OrDie(second->Follow(*event));
    OrDie(second->Copy(sink.get(), memory.get(), kBytes));
    OrDie(second->Await());
    EXPECT_EQ(reinterpret_cast<double*>(sink.get())[kLast], i);
  }
}

TEST(GpuDeviceTest, EventsKnowTheirTime) {
  Device& device = *OrDie(TestGpu());
  const auto stream = OrDie(DeviceStream::Create(device));
  const auto begin = OrDie(DeviceEvent::Create(device)), end = OrDie(DeviceEvent::Create(device));
  const auto memory = OrDie(device.Memory(int64_t{64} << 20, "a test"));
  OrDie(stream->Record(*begin));
  for (int i = 0; i < 10; ++i) OrDie(stream->Clear(memory.get(), int64_t{64} << 20));
  OrDie(stream->Record(*end));
  OrDie(end->Await());
  EXPECT_TRUE(OrDie(begin->Reached()) && OrDie(end->Reached()));
  EXPECT_GT(OrDie(end->SecondsSince(*begin)), 0);
}

TEST(GpuDeviceTest, AGraphRepeatsWhatWasCaptured) {
  Device& device = *OrDie(TestGpu());
  const auto stream = OrDie(DeviceStream::Create(device));
  const auto memory = OrDie(device.Memory(sizeof(double), "a test"));
  const auto host = OrDie(device.LockedMemory(2 * sizeof(double), "a test"));
  double* const values = reinterpret_cast<double*>(host.get());
  OrDie(stream->BeginCapture());
  OrDie(stream->Copy(memory.get(), &values[0], sizeof(double)));
  OrDie(stream->Copy(&values[1], memory.get(), sizeof(double)));
  const std::unique_ptr<DeviceGraph> graph = OrDie(stream->EndCapture());
  values[1] = -1;
  OrDie(stream->Await());
  EXPECT_EQ(values[1], -1);  // captured, but not run
  for (int i = 0; i < 5; ++i) {
    values[0] = i;
    OrDie(stream->Launch(*graph));
    OrDie(stream->Await());
    EXPECT_EQ(values[1], i);
  }
}

TEST(GpuDeviceTest, MemoryThatIsNotThereIsASentence) {
  const absl::Status status = OrDie(TestGpu())->Memory(int64_t{1} << 50, "a test").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

}  // namespace
}  // namespace angel_ptm
