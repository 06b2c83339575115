// A simulated GPU: the calls of memory/device_api.h on host memory, as adversarial as their contract allows.
//
// * Work on streams is done as late as possible, by a thread that waits for some of it. If several streams could
//   proceed, a seeded choice lets one run far ahead of the others. This reveals memory that is read, overwritten or
//   freed without waiting. The device has no notion of time, so nothing depends on the machine's load.
// * An async copy reads its source when it is done, not when it is put on the stream.
// * Device memory starts as NaNs (bytes of 0xff), at addresses where nothing is mapped: a host that touches it dies of
//   SIGSEGV. Work finds it elsewhere (Translate). Page-locked memory starts as NaNs, too.
// * An error of the work is sticky: every later call returns it.
// * Codes can be injected per call; one option is what a machine without a usable GPU reports. Tests plant faults of a
//   runtime by overriding calls (tests/laws/device_faults_test.cc).
#ifndef ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_H_
#define ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "angel_ptm/memory/device_api.h"

namespace angel_ptm {

struct FakeDeviceOptions {
  unsigned seed = 0;
  int devices = 1;
  int driver_version = 13000;
  DeviceProperties properties = {"Fake H200", 9, 0, 227 << 10};
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t taken_bytes = 0;                  // by another process
  std::map<std::string, DeviceCode> codes;  // by call, e.g. {"DeviceCount", 35}: what it returns, always
  int64_t fails_at_kernel = -1;             // the work of this kernel, counted in the order of execution,
  DeviceCode fails_with = kDeviceEccError;  // ends with this code
  // Allocates the memory in which work finds the device's memory, for tests that access it there, too; null: the fake
  // allocates its own.
  std::function<std::byte*(int64_t bytes)> allocate;
  std::function<void(std::byte* data)> free;
};

class FakeDevice : public DeviceApi {
 public:
  explicit FakeDevice(FakeDeviceOptions options = {});
  ~FakeDevice() override;

  std::string ErrorText(DeviceCode code) override;
  DeviceCode DriverVersion(int* version) override;
  DeviceCode DeviceCount(int* count) override;
  DeviceCode GetProperties(int device, DeviceProperties* properties) override;
  DeviceCode SetDevice(int device) override;
  DeviceCode MemoryInfo(int64_t* free_bytes, int64_t* total_bytes) override;
  DeviceCode Malloc(void** memory, int64_t bytes) override;
  DeviceCode Free(void* memory) override;
  DeviceCode MallocHost(void** memory, int64_t bytes) override;
  DeviceCode FreeHost(void* memory) override;
  DeviceCode RegisterHost(void* memory, int64_t bytes) override;
  DeviceCode UnregisterHost(void* memory) override;
  DeviceCode CreateStream(void** stream) override;
  DeviceCode DestroyStream(void* stream) override;
  DeviceCode SynchronizeStream(void* stream) override;
  DeviceCode StreamWaitEvent(void* stream, void* event) override;
  DeviceCode CreateEvent(void** event) override;
  DeviceCode DestroyEvent(void* event) override;
  DeviceCode RecordEvent(void* event, void* stream) override;
  DeviceCode QueryEvent(void* event) override;
  DeviceCode SynchronizeEvent(void* event) override;
  DeviceCode ElapsedMilliseconds(float* milliseconds, void* begin, void* end) override;
  DeviceCode CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) override;
  DeviceCode FillAsync(void* dst, int value, int64_t bytes, void* stream) override;
  DeviceCode BeginCapture(void* stream) override;
  DeviceCode EndCapture(void* stream, void** captured) override;
  DeviceCode InstantiateGraph(void** graph, void* captured) override;
  DeviceCode LaunchGraph(void* graph, void* stream) override;
  DeviceCode DestroyGraph(void* graph) override;

  void BeginRange(const char* name) override;
  void EndRange() override;

  // The ranges that a thread has begun and ended: how often each name was begun, and how many are open.
  struct Ranges {
    std::map<std::string, int> begun;
    int open = 0;
  };
  std::map<std::thread::id, Ranges> ranges();

  // Puts a kernel on a stream of some FakeDevice. The `bytes` bytes at `arguments` are treated as 8-byte words, and
  // every word that is a device address is replaced by the address at which the work finds that memory.
  static void Launch(void* stream, void* arguments, size_t bytes, std::function<void()> work);
  // A sticky error, unless `memory` is null, device memory or page-locked.
  static void WantReachable(void* stream, const void* memory);
  static FakeDevice& Of(void* stream);
  // Puts work on a stream that also waits for what other devices do. The work is done once `ready` returns true, which
  // is called often while some thread waits for the device. Both run under the device's lock and must not call the
  // device, except ResolveInWork.
  static void PutWaiting(void* stream, std::function<bool()> ready, std::function<void(FakeDevice&)> work);
  // Does what a call that frees memory does: waits for all streams, while others that ask for events wait for it.
  void AwaitAll() {
    const std::lock_guard<std::mutex> lock(freeing_);
    WorkUntil([] { return false; });
  }
  // Where work finds [memory, memory + bytes), host or device memory; null, with a sticky error, if it is neither.
  std::byte* ResolveInWork(const void* memory, int64_t bytes) { return Resolve(memory, bytes); }
  // Where work finds the device memory at `memory`; null if that is not device memory.
  std::byte* Translate(const void* memory);
  // The kernels of a graph count as launched when the graph was captured.
  int64_t kernels_launched() const { return kernels_; }
  int64_t graphs_captured() const { return graphs_captured_; }
  int64_t graphs_launched() const { return graphs_launched_; }

 protected:
  // The stream that a kernel runs on; planted faults choose another.
  virtual void* StreamOfKernel(void* stream) { return stream; }
  // The same copy, done immediately.
  void CopyNow(void* dst, const void* src, int64_t bytes);

 private:
  struct Marker;
  struct Command;
  struct Stream;
  struct Event;
  struct Graph;
  // An allocation of device memory or page-locked memory, by its first address.
  struct Room {
    int64_t bytes = 0;
    std::byte* data = nullptr;  // where it can be read and written
  };
  using Rooms = std::map<const std::byte*, Room>;

  DeviceCode Injected(const char* call) const;
  void GiveBack(const Room& room) const;
  void Push(void* stream, Command command);
  // For a call that a stream does not take while it captures: invalidates the capture. kDeviceSuccess if it is not
  // capturing.
  static DeviceCode Spoil(void* stream);
  enum class Progress { kWorked, kWaits, kNothing };
  // Does one piece of work of some stream that can proceed. kWaits: none can, and some wait for other devices.
  Progress WorkOnce();
  void WorkUntil(const std::function<bool()>& done);
  static const Room* Find(const Rooms& rooms, const void* memory, int64_t bytes, int64_t* offset);
  // Where work finds [memory, memory + bytes), host or device memory; null, with a sticky error, if it is neither.
  std::byte* Resolve(const void* memory, int64_t bytes);
  void TranslateWords(void* arguments, size_t bytes);

  const FakeDeviceOptions options_;
  std::mutex freeing_;  // held by AwaitAll; before mutex_
  std::mutex mutex_;    // guards all below; work is done under it
  std::mt19937 random_;
  Rooms memory_, locked_;
  std::map<std::thread::id, Ranges> ranges_;
  int64_t used_bytes_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::atomic<DeviceCode> failed_ = kDeviceSuccess;
  int64_t kernels_ = 0, kernels_done_ = 0;
  std::atomic<int64_t> graphs_captured_ = 0, graphs_launched_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_H_
