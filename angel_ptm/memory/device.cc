#include "angel_ptm/memory/device.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

// 13010 is "13.1".
std::string Version(int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); }

// Why no GPU can be counted.
absl::Status NoGpu(DeviceApi& api, DeviceCode code) {
  int driver = 0;
  if (api.DriverVersion(&driver) != kDeviceSuccess) driver = 0;
  if (driver == 0) return absl::FailedPreconditionError("no NVIDIA driver is loaded on this machine");
  if (code == kDeviceInsufficientDriver) {
    return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver serves CUDA up to ", Version(driver),
                                                      ", which is too old for this program: update the driver"));
  }
  return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver shows this process no GPU (",
                                                    api.ErrorText(code), " (", code,
                                                    ")): look at CUDA_VISIBLE_DEVICES and nvidia-smi"));
}

// sm_80 code runs on any 8.x, sm_90a code only on 9.0.
bool HasKernelsFor(const DeviceProperties& properties) {
  return properties.major == 8 || (properties.major == 9 && properties.minor == 0);
}

// What blocks of the kernels for sm_80 count on. GPUs of 8.6 and 8.9 run that code and have 99 KiB.
constexpr int64_t kBlockSharedBytes = 163 << 10;

class DeviceArena : public Tier {
 public:
  DeviceArena(Device& device, int64_t bytes, std::shared_ptr<std::byte> memory, std::unique_ptr<DeviceStream> stream)
      : Tier(TierKind::kDevice, bytes), device_(device), memory_(std::move(memory)), stream_(std::move(stream)) {}

  std::byte* data() override { return memory_.get(); }
  std::byte* host_data() override { return nullptr; }
  absl::Status Write(int64_t offset, const void* src, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    return CopyNow(memory_.get() + offset, src, n);
  }
  absl::Status Read(int64_t offset, void* dst, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    return CopyNow(dst, memory_.get() + offset, n);
  }

 private:
  absl::Status CopyNow(void* dst, const void* src, int64_t n) {
    RETURN_IF_ERROR(device_.MakeCurrent());
    RETURN_IF_ERROR(stream_->Copy(dst, src, n));
    return stream_->Await();
  }

  Device& device_;
  const std::shared_ptr<std::byte> memory_;
  const std::unique_ptr<DeviceStream> stream_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceEvent>> DeviceEvent::Create(Device& device) {
  RETURN_IF_ERROR(device.MakeCurrent());
  void* event = nullptr;
  RETURN_IF_ERROR(device.Check(device.api().CreateEvent(&event), "making an event"));
  return std::unique_ptr<DeviceEvent>(new DeviceEvent(device, event));
}
// The code is ignored: what a failed GPU says here is of no use.
DeviceEvent::~DeviceEvent() { device_.api().DestroyEvent(event_); }

absl::StatusOr<bool> DeviceEvent::Reached() const {
  const DeviceCode code = device_.api().QueryEvent(event_);
  if (code == kDeviceNotReady) return false;
  RETURN_IF_ERROR(device_.Check(code, "waiting for it"));
  return true;
}
absl::Status DeviceEvent::Await() const {
  return device_.Check(device_.api().SynchronizeEvent(event_), "waiting for it");
}

absl::StatusOr<double> DeviceEvent::SecondsSince(const DeviceEvent& begin) const {
  float milliseconds = 0;
  RETURN_IF_ERROR(
      device_.Check(device_.api().ElapsedMilliseconds(&milliseconds, begin.event_, event_), "reading its clock"));
  return milliseconds * 1e-3;
}

absl::StatusOr<std::unique_ptr<DeviceStream>> DeviceStream::Create(Device& device) {
  RETURN_IF_ERROR(device.MakeCurrent());
  void* stream = nullptr;
  RETURN_IF_ERROR(device.Check(device.api().CreateStream(&stream), "making a stream"));
  return std::unique_ptr<DeviceStream>(new DeviceStream(device, stream));
}
DeviceStream::~DeviceStream() {
  device_.api().SynchronizeStream(stream_);
  device_.api().DestroyStream(stream_);
}

absl::Status DeviceStream::Copy(void* dst, const void* src, int64_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  return device_.Check(device_.api().CopyAsync(dst, src, bytes, stream_), "a copy");
}
absl::Status DeviceStream::Clear(void* dst, int64_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  return device_.Check(device_.api().FillAsync(dst, 0, bytes, stream_), "clearing memory");
}
absl::Status DeviceStream::Record(DeviceEvent& event) {
  return device_.Check(device_.api().RecordEvent(event.event_, stream_), "recording an event");
}
absl::Status DeviceStream::Follow(const DeviceEvent& event) {
  return device_.Check(device_.api().StreamWaitEvent(stream_, event.event_), "waiting for an event");
}
absl::Status DeviceStream::Await() { return device_.Check(device_.api().SynchronizeStream(stream_), "waiting for it"); }

absl::Status DeviceStream::BeginCapture() {
  return device_.Check(device_.api().BeginCapture(stream_), "beginning a graph");
}
absl::StatusOr<std::unique_ptr<DeviceGraph>> DeviceStream::EndCapture() {
  void *captured = nullptr, *graph = nullptr;
  RETURN_IF_ERROR(device_.Check(device_.api().EndCapture(stream_, &captured), "capturing a graph"));
  RETURN_IF_ERROR(device_.Check(device_.api().InstantiateGraph(&graph, captured), "making a graph"));
  return std::unique_ptr<DeviceGraph>(new DeviceGraph(device_, graph));
}
absl::Status DeviceStream::Launch(const DeviceGraph& graph) {
  return device_.Check(device_.api().LaunchGraph(graph.graph_, stream_), "launching a graph");
}
DeviceGraph::~DeviceGraph() { device_.api().DestroyGraph(graph_); }

absl::Status Device::Find(DeviceApi& api, int local_ranks) {
  int count = 0;
  if (const DeviceCode code = api.DeviceCount(&count); code != kDeviceSuccess || count == 0) return NoGpu(api, code);
  if (count < local_ranks) {
    return absl::FailedPreconditionError(absl::StrCat("this machine has ", count, count == 1 ? " GPU" : " GPUs",
                                                      ", wanted one for each of its ", local_ranks, " ranks"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Device>> Device::Open(DeviceApi& api, int local_rank, int local_ranks) {
  RETURN_IF_ERROR(Find(api, local_ranks));
  DeviceProperties properties;
  if (const DeviceCode code = api.GetProperties(local_rank, &properties); code != kDeviceSuccess) {
    return absl::FailedPreconditionError(
        absl::StrCat("GPU ", local_rank, " does not answer: ", api.ErrorText(code), " (", code, ")"));
  }
  std::unique_ptr<Device> device(
      new Device(api, local_rank, absl::StrCat("GPU ", local_rank, " (", properties.name, ")")));
  if (!HasKernelsFor(properties)) {
    return absl::FailedPreconditionError(absl::StrCat(device->name(), " has compute capability ", properties.major, ".",
                                                      properties.minor, ", this program has kernels for 8.x and 9.0"));
  }
  if (properties.block_shared_bytes < kBlockSharedBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(device->name(), " has ", FormatBytes(properties.block_shared_bytes),
                     " of shared memory for a block, this program's kernels need ", FormatBytes(kBlockSharedBytes)));
  }
  int64_t free_bytes = 0, total_bytes = 0;
  DeviceCode code = api.SetDevice(local_rank);
  if (code == kDeviceSuccess) code = api.MemoryInfo(&free_bytes, &total_bytes);
  if (code == kDevicesUnavailable || code == kDeviceOutOfMemory) {
    return absl::FailedPreconditionError(absl::StrCat("another process has ", device->name(), " to itself"));
  }
  RETURN_IF_ERROR(device->Check(code, "starting it"));
  return device;
}

absl::Status Device::Check(DeviceCode code, absl::string_view what) const {
  if (code == kDeviceSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(name_, ", ", what, ": ", api_.ErrorText(code), " (", code, ")"));
}

absl::StatusOr<int64_t> Device::FreeBytes() const {
  RETURN_IF_ERROR(MakeCurrent());
  int64_t free_bytes = 0, total_bytes = 0;
  RETURN_IF_ERROR(Check(api_.MemoryInfo(&free_bytes, &total_bytes), "asking for its memory"));
  return free_bytes;
}

absl::StatusOr<std::shared_ptr<std::byte>> Device::Memory(int64_t bytes, absl::string_view what) {
  if (bytes == 0) return std::shared_ptr<std::byte>();
  RETURN_IF_ERROR(MakeCurrent());
  void* memory = nullptr;
  const DeviceCode code = api_.Malloc(&memory, bytes);
  if (code == kDeviceOutOfMemory) {
    int64_t free_bytes = 0, total_bytes = 0;
    RETURN_IF_ERROR(Check(api_.MemoryInfo(&free_bytes, &total_bytes), "asking for its memory"));
    return absl::ResourceExhaustedError(
        absl::StrCat(name_, " has ", FormatBytes(free_bytes), " free of its ", FormatBytes(total_bytes), ", ", what,
                     " needs ", FormatBytes(bytes), ": end what else runs there, or set memory.device_bytes lower"));
  }
  RETURN_IF_ERROR(Check(code, absl::StrCat("memory for ", what)));
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), [&api = api_](std::byte* m) { api.Free(m); });
}

absl::StatusOr<std::shared_ptr<std::byte>> Device::LockedMemory(int64_t bytes, absl::string_view what) {
  if (bytes == 0) return std::shared_ptr<std::byte>();
  RETURN_IF_ERROR(MakeCurrent());
  void* memory = nullptr;
  RETURN_IF_ERROR(Check(api_.MallocHost(&memory, bytes), absl::StrCat("page-locked host memory for ", what)));
  std::memset(memory, 0, static_cast<size_t>(bytes));
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), [&api = api_](std::byte* m) { api.FreeHost(m); });
}

absl::StatusOr<std::shared_ptr<void>> Device::PageLock(std::byte* memory, int64_t bytes, absl::string_view what) {
  if (bytes == 0) return std::shared_ptr<void>();
  RETURN_IF_ERROR(MakeCurrent());
  RETURN_IF_ERROR(
      Check(api_.RegisterHost(memory, bytes), absl::StrCat("page-locking ", FormatBytes(bytes), " of ", what)));
  return std::shared_ptr<void>(memory, [&api = api_](void* m) { api.UnregisterHost(m); });
}

absl::StatusOr<std::unique_ptr<Tier>> MakeDeviceArena(Device& device, int64_t bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<std::byte> memory, device.Memory(bytes, "the device tier"));
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceStream> stream, DeviceStream::Create(device));
  RETURN_IF_ERROR(stream->Clear(memory.get(), bytes));
  RETURN_IF_ERROR(stream->Await());
  return std::make_unique<DeviceArena>(device, bytes, std::move(memory), std::move(stream));
}

}  // namespace angel_ptm
