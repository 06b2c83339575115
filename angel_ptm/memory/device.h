// One rank's GPU: memory, streams and events with owners, and codes turned into sentences.
//
// Work on a stream goes wrong later: an error is returned by whichever call learns of it, and by every call behind it.
// It says which GPU; which step it was, the lanes say (exec/stream_lane.cc).
//
// Thread safety: all of it, as far as callers do not put work on one stream at the same time where its order matters.
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

  // Whether its latest record was reached, and all before it on the stream; true if there is none.
  absl::StatusOr<bool> Reached() const;
  // Blocks until it is.
  absl::Status Await() const;
  // Seconds from `begin`; both were reached.
  absl::StatusOr<double> SecondsSince(const DeviceEvent& begin) const;

 private:
  friend class DeviceStream;
  DeviceEvent(Device& device, void* event) : device_(device), event_(event) {}

  Device& device_;
  void* const event_;
};

// What a stream has captured, to be put on it again and again. Must not outlive its Device, nor the memory that what
// was captured works on.
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
  // For KernelContext::stream. Kernels are launched by a thread that has called Device::MakeCurrent.
  void* handle() const { return stream_; }

  // Either side is device memory, or host memory of the Device's (LockedMemory, PageLock): both must be left alone
  // until the copy is done. Other host memory: only with Await right behind it.
  absl::Status Copy(void* dst, const void* src, int64_t bytes);
  // Device memory, with zeros.
  absl::Status Clear(void* dst, int64_t bytes);
  absl::Status Record(DeviceEvent& event);
  // What comes behind this waits for the event's latest record. One that was never recorded is a bug of the caller's.
  absl::Status Follow(const DeviceEvent& event);
  // Blocks until all is done.
  absl::Status Await();
  // Between the two, copies and kernels that this thread puts on the stream are captured instead of done; nothing is
  // recorded, followed or awaited there.
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
  // Whether there is one for each rank of the machine; starts none. Errors: as Open's first four.
  static absl::Status Find(DeviceApi& api, int local_ranks);

  // GPU `local_rank` of a machine on which `local_ranks` ranks run. Errors, a reason each: no driver, one too old, no
  // GPU, fewer than ranks, one that this program has no kernels for, one that another process has to itself.
  static absl::StatusOr<std::unique_ptr<Device>> Open(DeviceApi& api, int local_rank, int local_ranks);

  // "GPU 0 (NVIDIA H200)".
  const std::string& name() const { return name_; }
  DeviceApi& api() const { return api_; }

  // Before a thread's first launch of a kernel.
  absl::Status MakeCurrent() const { return Check(api_.SetDevice(index_), "choosing it"); }

  // What nobody has of its memory.
  absl::StatusOr<int64_t> FreeBytes() const;

  // Freed with the pointer, which must not outlive the Device. `what` names it in errors. kResourceExhausted naming
  // what is free and what is missing.
  absl::StatusOr<std::shared_ptr<std::byte>> Memory(int64_t bytes, absl::string_view what);
  // Host memory that streams copy from and to without the host's help, zeroed.
  absl::StatusOr<std::shared_ptr<std::byte>> LockedMemory(int64_t bytes, absl::string_view what);
  // Makes existing host memory such, until the pointer goes; null for no bytes.
  absl::StatusOr<std::shared_ptr<void>> PageLock(std::byte* memory, int64_t bytes, absl::string_view what);

  // OK, or a sentence with the GPU's name and what it was asked to do.
  absl::Status Check(DeviceCode code, absl::string_view what) const;

 private:
  Device(DeviceApi& api, int index, std::string name) : api_(api), index_(index), name_(std::move(name)) {}

  DeviceApi& api_;
  const int index_;
  const std::string name_;
};

// The device tier on a GPU: one allocation, zeroed. Host code reaches it through Read and Write alone. The errors are
// the device's.
absl::StatusOr<std::unique_ptr<Tier>> MakeDeviceArena(Device& device, int64_t bytes);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_DEVICE_H_
