// The calls that a run makes to a GPU, as CUDA's runtime offers them: the seam at which tests put a device of their
// own. Nothing above memory/device.h calls it, except for the profilers' ranges.
//
// The calls, their order and their codes are CUDA's. Calls that take a stream put work on it and return; an error of
// that work is returned by a later call, and by all calls after that one. Handles and addresses of device memory are
// opaque: the host neither reads nor writes there.
//
// Thread safety: everything may be called from any thread. A thread uses the device that it has chosen with SetDevice.
#ifndef ANGEL_PTM_MEMORY_DEVICE_API_H_
#define ANGEL_PTM_MEMORY_DEVICE_API_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

// The values of cudaError_t that callers tell apart.
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
  // The highest CUDA version that the driver supports, as 1000 * major + 10 * minor; 0 where there is no driver.
  virtual DeviceCode DriverVersion(int* version) = 0;
  virtual DeviceCode DeviceCount(int* count) = 0;
  virtual DeviceCode GetProperties(int device, DeviceProperties* properties) = 0;
  virtual DeviceCode SetDevice(int device) = 0;
  // The current device's memory: what nobody has allocated, and all of it.
  virtual DeviceCode MemoryInfo(int64_t* free_bytes, int64_t* total_bytes) = 0;

  virtual DeviceCode Malloc(void** memory, int64_t bytes) = 0;
  virtual DeviceCode Free(void* memory) = 0;
  // MallocHost allocates host memory that the device can reach; RegisterHost makes existing memory reachable.
  virtual DeviceCode MallocHost(void** memory, int64_t bytes) = 0;
  virtual DeviceCode FreeHost(void* memory) = 0;
  virtual DeviceCode RegisterHost(void* memory, int64_t bytes) = 0;
  virtual DeviceCode UnregisterHost(void* memory) = 0;

  // Streams wait only for what they are told to wait for.
  virtual DeviceCode CreateStream(void** stream) = 0;
  virtual DeviceCode DestroyStream(void* stream) = 0;
  virtual DeviceCode SynchronizeStream(void* stream) = 0;
  // Work put on the stream after this waits for the event's latest record; an event that was never recorded is not
  // waited for.
  virtual DeviceCode StreamWaitEvent(void* stream, void* event) = 0;

  // Events record their time; a thread that waits for one sleeps.
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
  // Sets bytes of device memory.
  virtual DeviceCode FillAsync(void* dst, int value, int64_t bytes, void* stream) = 0;

  // What this thread puts on the stream from now on is captured instead of executed. Until EndCapture the stream must
  // not be waited for and takes no events: a call that tries either fails, and so does EndCapture.
  virtual DeviceCode BeginCapture(void* stream) = 0;
  virtual DeviceCode EndCapture(void* stream, void** captured) = 0;
  // Makes a graph that repeats what was captured: the same kernels with the same arguments, the same copies. Uses up
  // `captured`.
  virtual DeviceCode InstantiateGraph(void** graph, void* captured) = 0;
  virtual DeviceCode LaunchGraph(void* graph, void* stream) = 0;
  virtual DeviceCode DestroyGraph(void* graph) = 0;

  // For profilers: what the thread does until the matching EndRange is called `name`.
  virtual void BeginRange(const char* name) = 0;
  virtual void EndRange() = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_DEVICE_API_H_
