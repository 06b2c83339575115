// A rank's GPU on the fake device: what a machine without a usable GPU reports, copies in stream order, errors that
// persist, and that the fake is as strict as it claims.
#include "angel_ptm/memory/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "angel_ptm/memory/cuda_device_api.h"
#include "tests/support/fake_device.h"
#include "tests/support/or_die.h"

namespace angel_ptm {
namespace {

// The error of opening the GPU of local rank 0.
std::string Refusal(FakeDeviceOptions options, int local_ranks = 1) {
  FakeDevice api(std::move(options));
  return std::string(Device::Open(api, 0, local_ranks).status().message());
}

TEST(DeviceOpenTest, SaysWhyThereIsNone) {
  EXPECT_EQ(Refusal({.driver_version = 0, .codes = {{"DeviceCount", kDeviceInsufficientDriver}}}),
            "no NVIDIA driver is loaded on this machine");
  EXPECT_EQ(Refusal({.driver_version = 11080, .codes = {{"DeviceCount", kDeviceInsufficientDriver}}}),
            "the NVIDIA driver serves CUDA up to 11.8, which is too old for this program: update the driver");
  EXPECT_EQ(Refusal({.codes = {{"DeviceCount", kNoDevice}}}),
            "the NVIDIA driver shows this process no GPU (error 100 of the fake device (100)): look at "
            "CUDA_VISIBLE_DEVICES and nvidia-smi");
  EXPECT_EQ(Refusal({.devices = 2}, 3), "this machine has 2 GPUs, wanted one for each of its 3 ranks");
  EXPECT_EQ(Refusal({.properties = {"Tesla V100", 7, 0}}),
            "GPU 0 (Tesla V100) has compute capability 7.0, this program has kernels for 8.x and 9.0");
  EXPECT_EQ(Refusal({.properties = {"RTX 4090", 8, 9, 99 << 10}}),
            "GPU 0 (RTX 4090) has 99.0 KiB of shared memory for a block, this program's kernels need 163 KiB");
  EXPECT_EQ(Refusal({.codes = {{"SetDevice", kDevicesUnavailable}}}),
            "another process has GPU 0 (Fake H200) to itself");
  EXPECT_EQ(Refusal({}), "");
}

// The real runtime, where the build has it: on a machine without a driver the program goes on and says so.
TEST(DeviceOpenTest, TheRealRuntimeAnswers) {
  const std::unique_ptr<DeviceApi> api = MakeCudaDeviceApi();
  if (api == nullptr) GTEST_SKIP() << "a build without CUDA";
  const auto device = Device::Open(*api, 0, 1);
  EXPECT_TRUE(device.ok() || absl::IsFailedPrecondition(device.status())) << device.status();
  if (!device.ok()) std::printf("  %s\n", std::string(device.status().message()).c_str());
}

class DeviceTest : public testing::Test {
 protected:
  explicit DeviceTest(FakeDeviceOptions options = {}) : api_(std::move(options)) {}

  FakeDevice api_;
  const std::unique_ptr<Device> device_ = OrDie(Device::Open(api_, 0, 1));
  const std::unique_ptr<DeviceStream> stream_ = OrDie(DeviceStream::Create(*device_));
};

class SmallDeviceTest : public DeviceTest {
 protected:
  SmallDeviceTest() : DeviceTest({.memory_bytes = 1 << 20, .taken_bytes = 3 << 18}) {}
};

TEST_F(SmallDeviceTest, SaysWhatMemoryAnotherProcessLeaves) {
  const absl::Status status = MakeDeviceArena(*device_, 1 << 19).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(),
            "GPU 0 (Fake H200) has 256 KiB free of its 1.00 MiB, the device tier needs 512 KiB: end what else runs "
            "there, or set memory.device_bytes lower");
}

TEST_F(DeviceTest, AnArenaIsZeroAndKeepsWhatIsWritten) {
  const std::unique_ptr<Tier> tier = OrDie(MakeDeviceArena(*device_, 8192));
  EXPECT_NE(tier->data(), nullptr);
  EXPECT_EQ(tier->host_data(), nullptr);
  std::vector<int> values(64), read(64, -1);
  OrDie(tier->Read(4096, read.data(), 256));
  EXPECT_EQ(read, values);
  std::iota(values.begin(), values.end(), 0);
  OrDie(tier->Write(4096, values.data(), 256));
  OrDie(tier->Read(4096, read.data(), 256));
  EXPECT_EQ(read, values);
}

TEST_F(DeviceTest, AStreamFollowsWhatWasRecordedOnAnother) {
  const auto other = OrDie(DeviceStream::Create(*device_));
  const auto event = OrDie(DeviceEvent::Create(*device_));
  const auto memory = OrDie(device_->Memory(sizeof(double), "a test"));
  const auto host = OrDie(device_->LockedMemory(2 * sizeof(double), "a test"));
  double* const values = reinterpret_cast<double*>(host.get());
  for (int i = 0; i < 50; ++i) {
    values[0] = i;
    OrDie(stream_->Copy(memory.get(), &values[0], sizeof(double)));
    OrDie(stream_->Record(*event));
    OrDie(other->Follow(*event));
    OrDie(other->Copy(&values[1], memory.get(), sizeof(double)));
    OrDie(other->Await());
    EXPECT_EQ(values[1], i);
  }
}

TEST_F(DeviceTest, WithoutWaitingCopiesAreLate) {
  const auto memory = OrDie(device_->Memory(sizeof(double), "a test"));
  const auto host = OrDie(device_->LockedMemory(2 * sizeof(double), "a test"));
  double* const values = reinterpret_cast<double*>(host.get());
  OrDie(stream_->Copy(&values[0], memory.get(), sizeof(double)));
  EXPECT_EQ(values[0], 0);  // read too early
  OrDie(stream_->Await());
  EXPECT_TRUE(std::isnan(values[0]));  // nothing has written to the device's memory
  values[0] = 1;
  OrDie(stream_->Copy(memory.get(), &values[0], sizeof(double)));
  values[0] = 2;  // overwritten too early
  OrDie(stream_->Copy(&values[1], memory.get(), sizeof(double)));
  OrDie(stream_->Await());
  EXPECT_EQ(values[1], 2);
}

TEST_F(DeviceTest, AnEventIsReachedWhenItsStreamIs) {
  const auto event = OrDie(DeviceEvent::Create(*device_));
  EXPECT_TRUE(OrDie(event->Reached()));
  OrDie(stream_->Record(*event));
  EXPECT_FALSE(OrDie(event->Reached()));
  OrDie(event->Await());
  EXPECT_TRUE(OrDie(event->Reached()));
}

TEST_F(DeviceTest, AGraphRepeatsWhatWasCaptured) {
  const auto memory = OrDie(device_->Memory(sizeof(double), "a test"));
  const auto host = OrDie(device_->LockedMemory(2 * sizeof(double), "a test"));
  double* const values = reinterpret_cast<double*>(host.get());
  OrDie(stream_->BeginCapture());
  OrDie(stream_->Copy(memory.get(), &values[0], sizeof(double)));
  OrDie(stream_->Copy(&values[1], memory.get(), sizeof(double)));
  const std::unique_ptr<DeviceGraph> graph = OrDie(stream_->EndCapture());
  values[1] = -1;
  OrDie(stream_->Await());
  EXPECT_EQ(values[1], -1);  // captured, but not run
  for (int i = 0; i < 5; ++i) {
    values[0] = i;
    OrDie(stream_->Launch(*graph));
    OrDie(stream_->Await());
    EXPECT_EQ(values[1], i);
  }
}

TEST_F(DeviceTest, WhatACaptureDoesNotTakeSpoilsIt) {
  const auto event = OrDie(DeviceEvent::Create(*device_));
  OrDie(stream_->Record(*event));
  const std::function<absl::Status()> calls[] = {[&] { return stream_->Await(); },
                                                 [&] { return stream_->Record(*event); },
                                                 [&] { return stream_->Follow(*event); }};
  for (const auto& call : calls) {
    OrDie(stream_->BeginCapture());
    EXPECT_THAT(std::string(call().message()), testing::HasSubstr("error 900"));
    EXPECT_THAT(std::string(stream_->EndCapture().status().message()), testing::HasSubstr("error 901"));
  }
  OrDie(stream_->Await());
}

TEST_F(DeviceTest, AnErrorNamesTheGpuAndStays) {
  const auto memory = OrDie(device_->Memory(64, "a test"));
  OrDie(stream_->Clear(memory.get(), 128));
  EXPECT_EQ(stream_->Await().message(), "GPU 0 (Fake H200), waiting for it: error 700 of the fake device (700)");
  EXPECT_FALSE(stream_->Await().ok());
  EXPECT_FALSE(device_->Memory(64, "a test").ok());
}

using DeviceDeathTest = DeviceTest;
TEST_F(DeviceDeathTest, AHostThatTouchesDeviceMemoryDies) {
  const auto memory = OrDie(device_->Memory(64, "a test"));
  EXPECT_EXIT(*reinterpret_cast<volatile char*>(memory.get()) = 1, testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace angel_ptm
