// What a run asks of a GPU, call for call as CUDA's runtime offers it: the seam at which tests put a device of their
// own. Nothing above memory/device.h calls it.
//
// The calls, their order and their codes are CUDA's. Calls that take a stream put work on it and return; what goes
// wrong in the work is returned by a later call, and by all calls behind that one. Handles and addresses of device
// memory are opaque: the host neither reads nor writes there.
//
// Thread safety: all of it. A thread uses the device that it has chosen by SetDevice.
#ifndef ANGEL_PTM_MEMORY_DEVICE_API_H_
#define ANGEL_PTM_MEMORY_DEVICE_API_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

// CUDA's numbers (cudaError_t), those that are told apart.
using DeviceCode = int;
inline constexpr DeviceCode kDeviceSuccess = 0, kDeviceOutOfMemory = 2, kDeviceInsufficientDriver = 35,
                            kDevicesUnavailable = 46, kNoDevice = 100, kDeviceEccError = 214, kDeviceNotReady = 600,
                            kDeviceIllegalAddress = 700, kDeviceCaptureUnsupported = 900,
                            kDeviceCaptureInvalidated = 901;

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;        // compute capability
  int64_t block_shared_bytes = 0;  // shared memory that a block may ask for
};

class DeviceApi {
 public:
  virtual ~DeviceApi() = default;

  // CUDA's text for a code.
  virtual std::string ErrorText(DeviceCode code) = 0;
  // The highest CUDA version the driver serves, as 1000 * major + 10 * minor; 0 where there is no driver.
  virtual DeviceCode DriverVersion(int* version) = 0;
  virtual DeviceCode DeviceCount(int* count) = 0;
  virtual DeviceCode GetProperties(int device, DeviceProperties* properties) = 0;
  virtual DeviceCode SetDevice(int device) = 0;
  // Of the current device: what nobody has, and all.
  virtual DeviceCode MemoryInfo(int64_t* free_bytes, int64_t* total_bytes) = 0;

  virtual DeviceCode Malloc(void** memory, int64_t bytes) = 0;
  virtual DeviceCode Free(void* memory) = 0;
  // Host memory that the device can reach; the same of memory that exists.
  virtual DeviceCode MallocHost(void** memory, int64_t bytes) = 0;
  virtual DeviceCode FreeHost(void* memory) = 0;
  virtual DeviceCode RegisterHost(void* memory, int64_t bytes) = 0;
  virtual DeviceCode UnregisterHost(void* memory) = 0;

  // Streams wait for nothing but what they are told to.
  virtual DeviceCode CreateStream(void** stream) = 0;
  virtual DeviceCode DestroyStream(void* stream) = 0;
  virtual DeviceCode SynchronizeStream(void* stream) = 0;
  // Behind the event's latest record; an event that was never recorded is not waited for.
  virtual DeviceCode StreamWaitEvent(void* stream, void* event) = 0;

  // Events know their time; a thread that waits for one sleeps.
  virtual DeviceCode CreateEvent(void** event) = 0;
  virtual DeviceCode DestroyEvent(void* event) = 0;
  virtual DeviceCode RecordEvent(void* event, void* stream) = 0;
  // kDeviceNotReady while its latest record has not been reached.
  virtual DeviceCode QueryEvent(void* event) = 0;
  virtual DeviceCode SynchronizeEvent(void* event) = 0;
  // Between two events that were reached.
  virtual DeviceCode ElapsedMilliseconds(float* milliseconds, void* begin, void* end) = 0;

  // Either side may be device memory or host memory.
  virtual DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) = 0;
  // Bytes of device memory.
  virtual DeviceCode FillAsync(void* dst, int value, int64_t bytes, void* stream) = 0;

  // What this thread puts on the stream from now on is not done but captured. Until EndCapture the stream is not waited
  // for, and takes no events: the call that tries says so, and EndCapture that the capture is none.
  virtual DeviceCode BeginCapture(void* stream) = 0;
  virtual DeviceCode EndCapture(void* stream, void** captured) = 0;
  // A graph that repeats what was captured, which it uses up: the same kernels with the same arguments, the same
  // copies.
  virtual DeviceCode InstantiateGraph(void** graph, void* captured) = 0;
  virtual DeviceCode LaunchGraph(void* graph, void* stream) = 0;
  virtual DeviceCode DestroyGraph(void* graph) = 0;

  // For profilers: the thread does what is called `name` until the matching EndRange.
  virtual void BeginRange(const char* name) = 0;
  virtual void EndRange() = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_DEVICE_API_H_
