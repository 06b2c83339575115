#include "angel_ptm/memory/cuda_device_api.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

namespace angel_ptm {
namespace {

static_assert(kDeviceSuccess == cudaSuccess && kDeviceOutOfMemory == cudaErrorMemoryAllocation &&
              kDeviceInsufficientDriver == cudaErrorInsufficientDriver &&
              kDevicesUnavailable == cudaErrorDevicesUnavailable && kNoDevice == cudaErrorNoDevice &&
              kDeviceEccError == cudaErrorECCUncorrectable && kDeviceNotReady == cudaErrorNotReady &&
              kDeviceIllegalAddress == cudaErrorIllegalAddress &&
              kDeviceCaptureUnsupported == cudaErrorStreamCaptureUnsupported &&
              kDeviceCaptureInvalidated == cudaErrorStreamCaptureInvalidated);

cudaStream_t Stream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t Event(void* event) { return static_cast<cudaEvent_t>(event); }

class CudaApi final : public DeviceApi {
 public:
  std::string ErrorText(DeviceCode code) override { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
  DeviceCode DriverVersion(int* version) override { return cudaDriverGetVersion(version); }
  DeviceCode DeviceCount(int* count) override { return cudaGetDeviceCount(count); }
  DeviceCode GetProperties(int device, DeviceProperties* properties) override {
    cudaDeviceProp all;
    const cudaError_t code = cudaGetDeviceProperties(&all, device);
    if (code == cudaSuccess) {
      *properties = {.name = all.name,
                     .major = all.major,
                     .minor = all.minor,
                     .block_shared_bytes = static_cast<int64_t>(all.sharedMemPerBlockOptin)};
    }
    return code;
  }
  DeviceCode SetDevice(int device) override { return cudaSetDevice(device); }
  DeviceCode MemoryInfo(int64_t* free_bytes, int64_t* total_bytes) override {
    size_t free_size = 0, total_size = 0;
    const cudaError_t code = cudaMemGetInfo(&free_size, &total_size);
    *free_bytes = static_cast<int64_t>(free_size);
    *total_bytes = static_cast<int64_t>(total_size);
    return code;
  }

  DeviceCode Malloc(void** memory, int64_t bytes) override { return cudaMalloc(memory, static_cast<size_t>(bytes)); }
  DeviceCode Free(void* memory) override { return cudaFree(memory); }
  DeviceCode MallocHost(void** memory, int64_t bytes) override {
    return cudaHostAlloc(memory, static_cast<size_t>(bytes), cudaHostAllocPortable);
  }
  DeviceCode FreeHost(void* memory) override { return cudaFreeHost(memory); }
  DeviceCode RegisterHost(void* memory, int64_t bytes) override {
    return cudaHostRegister(memory, static_cast<size_t>(bytes), cudaHostRegisterPortable);
  }
  DeviceCode UnregisterHost(void* memory) override { return cudaHostUnregister(memory); }

  DeviceCode CreateStream(void** stream) override {
    return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
  }
  DeviceCode DestroyStream(void* stream) override { return cudaStreamDestroy(Stream(stream)); }
  DeviceCode SynchronizeStream(void* stream) override { return cudaStreamSynchronize(Stream(stream)); }
  DeviceCode StreamWaitEvent(void* stream, void* event) override {
    return cudaStreamWaitEvent(Stream(stream), Event(event), 0);
  }

  DeviceCode CreateEvent(void** event) override {
    return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventBlockingSync);
  }
  DeviceCode DestroyEvent(void* event) override { return cudaEventDestroy(Event(event)); }
  DeviceCode RecordEvent(void* event, void* stream) override { return cudaEventRecord(Event(event), Stream(stream)); }
  DeviceCode QueryEvent(void* event) override { return cudaEventQuery(Event(event)); }
  DeviceCode SynchronizeEvent(void* event) override { return cudaEventSynchronize(Event(event)); }
  DeviceCode ElapsedMilliseconds(float* milliseconds, void* begin, void* end) override {
    return cudaEventElapsedTime(milliseconds, Event(begin), Event(end));
  }

  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) override {
    return cudaMemcpyAsync(dst, src, static_cast<size_t>(bytes), cudaMemcpyDefault, Stream(stream));
  }
  // Other threads go on with their streams, and allocate. This thread may do so too: a kernel's first launch loads it,
  // which drivers before CUDA 12.3 refuse to a thread that captures in a stricter mode.
  DeviceCode BeginCapture(void* stream) override {
    return cudaStreamBeginCapture(Stream(stream), cudaStreamCaptureModeRelaxed);
  }
  DeviceCode EndCapture(void* stream, void** captured) override {
    return cudaStreamEndCapture(Stream(stream), reinterpret_cast<cudaGraph_t*>(captured));
  }
  DeviceCode InstantiateGraph(void** graph, void* captured) override {
    const cudaError_t code =
        cudaGraphInstantiate(reinterpret_cast<cudaGraphExec_t*>(graph), static_cast<cudaGraph_t>(captured), 0);
    const cudaError_t destroyed = cudaGraphDestroy(static_cast<cudaGraph_t>(captured));
    return code == cudaSuccess ? destroyed : code;
  }
  DeviceCode LaunchGraph(void* graph, void* stream) override {
    return cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), Stream(stream));
  }
  DeviceCode DestroyGraph(void* graph) override { return cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

  void BeginRange(const char* name) override { nvtxRangePushA(name); }
  void EndRange() override { nvtxRangePop(); }

  DeviceCode FillAsync(void* dst, int value, int64_t bytes, void* stream) override {
    return cudaMemsetAsync(dst, value, static_cast<size_t>(bytes), Stream(stream));
  }
};

}  // namespace

std::unique_ptr<DeviceApi> MakeCudaDeviceApi() { return std::make_unique<CudaApi>(); }

}  // namespace angel_ptm
