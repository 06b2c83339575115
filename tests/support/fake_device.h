// A GPU that is none: the calls of memory/device_api.h on host memory, as adversarial as their contract allows.
//
// * Work on streams is done as late as possible, by a thread that waits for some of it, and where several streams could
//   go on, a seeded choice lets one run far ahead of the others: what is read, overwritten or freed without waiting
//   shows. No time passes for it, so nothing depends on the machine's load.
// * An async copy reads its source when it is done, not when it is put on the stream.
// * Memory of the device starts as NaNs (bytes of 0xff) and has addresses at which there is nothing: a host that
// touches
//   it dies of SIGSEGV. Work finds it elsewhere (Translate). Page-locked memory starts as NaNs, too.
// * An error of the work stays: every later call returns it.
// * Codes can be injected per call; what a machine without a usable GPU says is one of the options.
// Faults of a runtime are planted by overriding calls (tests/laws/device_faults_test.cc).
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
  int64_t fails_at_kernel = -1;             // the work of this kernel, counted as they are done,
  DeviceCode fails_with = kDeviceEccError;  // ends with this code
  // Where work finds the device's memory: of whoever follows it there, too; null: memory of the fake's own.
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

  // By thread that had any: of the ranges it has begun and ended, how often each name, and how many are open.
  struct Ranges {
    std::map<std::string, int> begun;
    int open = 0;
  };
  std::map<std::thread::id, Ranges> ranges();

  // Puts a kernel on a stream of some FakeDevice. The addresses among the `bytes` bytes at `arguments`, 8-byte words,
  // are replaced by those at which the work finds the memory.
  static void Launch(void* stream, void* arguments, size_t bytes, std::function<void()> work);
  // An error that stays, unless the address is null, the device's or page-locked.
  static void WantReachable(void* stream, const void* memory);
  static FakeDevice& Of(void* stream);
  // Puts work on a stream that also waits for what other devices do: it is done when `ready` says so, which is asked
  // often while somebody waits for the device. Both are called under the device's lock and may not call it, but for
  // ResolveInWork.
  static void PutWaiting(void* stream, std::function<bool()> ready, std::function<void(FakeDevice&)> work);
  // As a call that frees memory does: waits for all streams, and others that ask for events wait for it.
  void AwaitAll() {
    const std::lock_guard<std::mutex> lock(freeing_);
    WorkUntil([] { return false; });
  }
  // Where [memory, memory + bytes) is, host memory or the device's; null, with an error that stays, if neither.
  std::byte* ResolveInWork(const void* memory, int64_t bytes) { return Resolve(memory, bytes); }
  // Where the work finds what the device has at `memory`; null if it is not the device's.
  std::byte* Translate(const void* memory);
  // A graph's kernels were launched when it was captured.
  int64_t kernels_launched() const { return kernels_; }
  int64_t graphs_captured() const { return graphs_captured_; }
  int64_t graphs_launched() const { return graphs_launched_; }

 protected:
  // The stream that a kernel runs on; planted faults choose another.
  virtual void* StreamOfKernel(void* stream) { return stream; }
  // The same copy, done at once.
  void CopyNow(void* dst, const void* src, int64_t bytes);

 private:
  struct Marker;
  struct Command;
  struct Stream;
  struct Event;
  struct Graph;
  // Of device memory or page-locked memory: what begins there.
  struct Room {
    int64_t bytes = 0;
    std::byte* data = nullptr;  // where it can be read and written
  };
  using Rooms = std::map<const std::byte*, Room>;

  DeviceCode Injected(const char* call) const;
  void GiveBack(const Room& room) const;
  void Push(void* stream, Command command);
  // Of a call that a stream does not take while it captures: the capture is spoilt. kDeviceSuccess if it does not.
  static DeviceCode Spoil(void* stream);
  enum class Progress { kWorked, kWaits, kNothing };
  // One piece of work of some stream that may go on. kWaits: all that could wait for other devices.
  Progress WorkOnce();
  void WorkUntil(const std::function<bool()>& done);
  static const Room* Find(const Rooms& rooms, const void* memory, int64_t bytes, int64_t* offset);
  // Where work finds [memory, memory + bytes), host memory or the device's; null, with an error that stays, if neither.
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
