// One rank's GPU: memory, streams and events with owners, and error codes turned into sentences.
//
// Work on a stream fails later: the error is returned by whichever call learns of it, and by every call after that. The
// error names the GPU; the lanes add the step (exec/stream_lane.cc).
//
// Thread safety: everything may be called from any thread, but callers must not put work on one stream at the same time
// where its order matters.
#ifndef ANGEL_PTM_MEMORY_DEVICE_H_
#define ANGEL_PTM_MEMORY_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/memory/device_api.h"
#include "angel_ptm/memory/tier.h"

namespace angel_ptm {

class Device;

// A point on a stream. Must not outlive its Device.
class DeviceEvent {
 public:
  static absl::StatusOr<std::unique_ptr<DeviceEvent>> Create(Device& device);
  ~DeviceEvent();
  DeviceEvent(const DeviceEvent&) = delete;
  DeviceEvent& operator=(const DeviceEvent&) = delete;

  // Whether the event's latest record was reached, and with it everything before it on the stream; true if there is no
  // record.
  absl::StatusOr<bool> Reached() const;
  // Blocks until it is reached.
  absl::Status Await() const;
  // Seconds from `begin` to this event; both must have been reached.
  absl::StatusOr<double> SecondsSince(const DeviceEvent& begin) const;

 private:
  friend class DeviceStream;
  DeviceEvent(Device& device, void* event) : device_(device), event_(event) {}

  Device& device_;
  void* const event_;
};

// Work that a stream has captured, to be put on it again and again. Must not outlive its Device, nor the memory that
// the captured work uses.
class DeviceGraph {
 public:
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

 private:
  friend class DeviceStream;
  DeviceGraph(Device& device, void* graph) : device_(device), graph_(graph) {}

  Device& device_;
  void* const graph_;
};

// A queue of work for the GPU, done in order. Must not outlive its Device.
class DeviceStream {
 public:
  static absl::StatusOr<std::unique_ptr<DeviceStream>> Create(Device& device);
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  Device& device() const { return device_; }
  // For KernelContext::stream. A thread that launches kernels must have called Device::MakeCurrent.
  void* handle() const { return stream_; }

  // Either side may be device memory, or host memory of this Device (LockedMemory, PageLock); both must be left alone
  // until the copy is done. Other host memory may be used only if Await follows immediately.
  absl::Status Copy(void* dst, const void* src, int64_t bytes);
  // Fills device memory with zeros.
  absl::Status Clear(void* dst, int64_t bytes);
  absl::Status Record(DeviceEvent& event);
  // Work put on the stream after this waits for the event's latest record. To follow an event that was never recorded
  // is a bug of the caller.
  absl::Status Follow(const DeviceEvent& event);
  // Blocks until everything on the stream is done.
  absl::Status Await();
  // Between these two calls, copies and kernels that this thread puts on the stream are captured instead of executed;
  // nothing may be recorded, followed or awaited there.
  absl::Status BeginCapture();
  absl::StatusOr<std::unique_ptr<DeviceGraph>> EndCapture();
  absl::Status Launch(const DeviceGraph& graph);

 private:
  DeviceStream(Device& device, void* stream) : device_(device), stream_(stream) {}

  Device& device_;
  void* const stream_;
};

class Device {
 public:
  // OK if there is a GPU for each rank of the machine; starts none. Errors: the first four of Open's.
  static absl::Status Find(DeviceApi& api, int local_ranks);

  // GPU `local_rank` of a machine on which `local_ranks` ranks run. Each error gives its reason: no driver, a driver
  // that is too old, no GPU, fewer GPUs than ranks, a GPU for which this program has no kernels, a GPU that another
  // process has to itself.
  static absl::StatusOr<std::unique_ptr<Device>> Open(DeviceApi& api, int local_rank, int local_ranks);

  // "GPU 0 (NVIDIA H200)".
  const std::string& name() const { return name_; }
  DeviceApi& api() const { return api_; }

  // To be called before a thread's first launch of a kernel.
  absl::Status MakeCurrent() const { return Check(api_.SetDevice(index_), "choosing it"); }

  // The bytes of its memory that nobody has allocated.
  absl::StatusOr<int64_t> FreeBytes() const;

  // Device memory, freed with the pointer, which must not outlive the Device. `what` names it in errors.
  // kResourceExhausted says how much is free and how much is needed.
  absl::StatusOr<std::shared_ptr<std::byte>> Memory(int64_t bytes, absl::string_view what);
  // Page-locked host memory, zeroed, which streams copy from and to without the host's help.
  absl::StatusOr<std::shared_ptr<std::byte>> LockedMemory(int64_t bytes, absl::string_view what);
  // Page-locks existing host memory until the pointer goes; null for no bytes.
  absl::StatusOr<std::shared_ptr<void>> PageLock(std::byte* memory, int64_t bytes, absl::string_view what);

  // OK, or a sentence with the GPU's name and what it was asked to do.
  absl::Status Check(DeviceCode code, absl::string_view what) const;

 private:
  Device(DeviceApi& api, int index, std::string name) : api_(api), index_(index), name_(std::move(name)) {}

  DeviceApi& api_;
  const int index_;
  const std::string name_;
};

// The device tier on a GPU: one allocation, zeroed. Host code reaches it only through Read and Write. Errors are the
// device's.
absl::StatusOr<std::unique_ptr<Tier>> MakeDeviceArena(Device& device, int64_t bytes);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_DEVICE_H_
