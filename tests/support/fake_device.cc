#include "tests/support/fake_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

struct FakeDevice::Marker {
  bool reached = false;
  std::chrono::steady_clock::time_point at;
};
struct FakeDevice::Command {
  std::shared_ptr<Marker> follows;
  std::function<bool()> ready;  // empty: immediately
  std::function<void()> work;
  std::shared_ptr<Marker> reaches;
};
struct FakeDevice::Stream {
  FakeDevice* device = nullptr;
  unsigned priority = 0;
  std::deque<Command> commands;
  std::unique_ptr<Graph> capture;  // while set, commands are captured into it
  bool spoilt = false;             // the capture is spoilt
};
struct FakeDevice::Graph {
  std::vector<Command> commands;
};
struct FakeDevice::Event {
  std::shared_ptr<Marker> latest;
};

namespace {

std::byte* ReserveNaNs(int64_t bytes) {
  const size_t size = static_cast<size_t>(bytes);
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  APTM_CHECK(memory != MAP_FAILED, bytes, " bytes");
  std::memset(memory, 0xff, size);
  return static_cast<std::byte*>(memory);
}

// Reserves addresses with nothing behind them, at a whole multiple of 2^32 below `data`. So translating an address
// keeps the lower half of the word, where arguments may have small numbers beside padding that looks like an address.
std::byte* ReserveNothing(std::byte* data, int64_t bytes) {
  for (uintptr_t distance = uintptr_t{1} << 32; distance < reinterpret_cast<uintptr_t>(data); distance <<= 1) {
    void* const wanted = data - distance;
    void* const got = mmap(wanted, static_cast<size_t>(bytes), PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == wanted) return static_cast<std::byte*>(got);
    if (got != MAP_FAILED) munmap(got, static_cast<size_t>(bytes));
  }
  APTM_CHECK(false, "no room for ", bytes, " bytes of addresses");
}

}  // namespace

FakeDevice::FakeDevice(FakeDeviceOptions options) : options_(std::move(options)), random_(options_.seed) {}

FakeDevice::~FakeDevice() {
  for (const auto& [begin, range] : memory_) {
    munmap(const_cast<std::byte*>(begin), static_cast<size_t>(range.bytes));
    GiveBack(range);
  }
}

std::string FakeDevice::ErrorText(DeviceCode code) { return absl::StrCat("error ", code, " of the fake device"); }

DeviceCode FakeDevice::Injected(const char* call) const {
  if (failed_ != kDeviceSuccess) return failed_;
  const auto it = options_.codes.find(call);
  return it == options_.codes.end() ? kDeviceSuccess : it->second;
}

DeviceCode FakeDevice::DriverVersion(int* version) {
  *version = options_.driver_version;
  return Injected("DriverVersion");
}
DeviceCode FakeDevice::DeviceCount(int* count) {
  *count = options_.devices;
  return Injected("DeviceCount");
}
DeviceCode FakeDevice::GetProperties(int, DeviceProperties* properties) {
  *properties = options_.properties;
  return Injected("GetProperties");
}
DeviceCode FakeDevice::SetDevice(int) { return Injected("SetDevice"); }
DeviceCode FakeDevice::MemoryInfo(int64_t* free_bytes, int64_t* total_bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  *total_bytes = options_.memory_bytes;
  *free_bytes = options_.memory_bytes - options_.taken_bytes - used_bytes_;
  return Injected("MemoryInfo");
}

DeviceCode FakeDevice::Malloc(void** memory, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Injected("Malloc"); code != kDeviceSuccess) return code;
  if (bytes > options_.memory_bytes - options_.taken_bytes - used_bytes_) return kDeviceOutOfMemory;
  std::byte* const data = options_.allocate ? options_.allocate(bytes) : ReserveNaNs(bytes);
  std::byte* const address = ReserveNothing(data, bytes);
  memory_[address] = {bytes, data};
  used_bytes_ += bytes;
  *memory = address;
  return kDeviceSuccess;
}
DeviceCode FakeDevice::Free(void* memory) {
  WorkUntil([] { return false; });
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = memory_.find(static_cast<std::byte*>(memory));
  APTM_CHECK(it != memory_.end(), "free of what was not allocated");
  used_bytes_ -= it->second.bytes;
  GiveBack(it->second);
  munmap(memory, static_cast<size_t>(it->second.bytes));
  memory_.erase(it);
  return failed_;
}
void FakeDevice::GiveBack(const Room& room) const {
  if (options_.free) return options_.free(room.data);
  munmap(room.data, static_cast<size_t>(room.bytes));
}
DeviceCode FakeDevice::MallocHost(void** memory, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Injected("MallocHost"); code != kDeviceSuccess) return code;
  std::byte* const address = ReserveNaNs(bytes);
  locked_[address] = {bytes, address};
  *memory = address;
  return kDeviceSuccess;
}
DeviceCode FakeDevice::FreeHost(void* memory) {
  WorkUntil([] { return false; });
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = locked_.find(static_cast<std::byte*>(memory));
  APTM_CHECK(it != locked_.end(), "free of host memory that was not allocated");
  munmap(memory, static_cast<size_t>(it->second.bytes));
  locked_.erase(it);
  return failed_;
}
DeviceCode FakeDevice::RegisterHost(void* memory, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Injected("RegisterHost"); code != kDeviceSuccess) return code;
  locked_[static_cast<std::byte*>(memory)] = {bytes, static_cast<std::byte*>(memory)};
  return kDeviceSuccess;
}
DeviceCode FakeDevice::UnregisterHost(void* memory) {
  WorkUntil([] { return false; });
  const std::lock_guard<std::mutex> lock(mutex_);
  locked_.erase(static_cast<std::byte*>(memory));
  return failed_;
}

DeviceCode FakeDevice::CreateStream(void** stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->device = this;
  *stream = streams_.back().get();
  return Injected("CreateStream");
}
DeviceCode FakeDevice::DestroyStream(void* stream) {
  SynchronizeStream(stream);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(streams_, [&](const auto& owned) { return owned.get() == stream; });
  return failed_;
}
DeviceCode FakeDevice::SynchronizeStream(void* stream) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const DeviceCode code = Spoil(stream); code != kDeviceSuccess) return code;
  }
  WorkUntil([&] { return static_cast<Stream*>(stream)->commands.empty(); });
  return Injected("SynchronizeStream");
}
DeviceCode FakeDevice::StreamWaitEvent(void* stream, void* event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Spoil(stream); code != kDeviceSuccess) return code;
  if (static_cast<Event*>(event)->latest) Push(stream, {.follows = static_cast<Event*>(event)->latest});
  return Injected("StreamWaitEvent");
}

DeviceCode FakeDevice::CreateEvent(void** event) {
  *event = new Event;
  return Injected("CreateEvent");
}
DeviceCode FakeDevice::DestroyEvent(void* event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  delete static_cast<Event*>(event);
  return failed_;
}
DeviceCode FakeDevice::RecordEvent(void* event, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Spoil(stream); code != kDeviceSuccess) return code;
  auto marker = std::make_shared<Marker>();
  static_cast<Event*>(event)->latest = marker;
  Push(stream, {.reaches = std::move(marker)});
  return Injected("RecordEvent");
}
DeviceCode FakeDevice::QueryEvent(void* event) {
  const std::lock_guard<std::mutex> freeing(freeing_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failed_ != kDeviceSuccess) return failed_;
  const auto& latest = static_cast<Event*>(event)->latest;
  return latest == nullptr || latest->reached ? kDeviceSuccess : kDeviceNotReady;
}
DeviceCode FakeDevice::SynchronizeEvent(void* event) {
  std::shared_ptr<Marker> marker;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    marker = static_cast<Event*>(event)->latest;
  }
  WorkUntil([&] { return marker == nullptr || marker->reached; });
  return Injected("SynchronizeEvent");
}
DeviceCode FakeDevice::ElapsedMilliseconds(float* milliseconds, void* begin, void* end) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Marker &first = *static_cast<Event*>(begin)->latest, &last = *static_cast<Event*>(end)->latest;
  if (!first.reached || !last.reached) return kDeviceNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(last.at - first.at).count();
  return failed_;
}

DeviceCode FakeDevice::CopyAsync(void* dst, const void* src, int64_t bytes, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Push(stream, {.work = [this, dst, src, bytes] {
         std::byte* const to = Resolve(dst, bytes);
         const std::byte* const from = Resolve(src, bytes);
         if (to != nullptr && from != nullptr) std::memmove(to, from, static_cast<size_t>(bytes));
       }});
  return Injected("CopyAsync");
}
void FakeDevice::CopyNow(void* dst, const void* src, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::byte* const to = Resolve(dst, bytes);
  const std::byte* const from = Resolve(src, bytes);
  if (to != nullptr && from != nullptr) std::memmove(to, from, static_cast<size_t>(bytes));
}
DeviceCode FakeDevice::FillAsync(void* dst, int value, int64_t bytes, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Push(stream, {.work = [this, dst, value, bytes] {
         int64_t offset = 0;
         const Room* const range = Find(memory_, dst, bytes, &offset);
         if (range == nullptr) {
           failed_ = kDeviceIllegalAddress;
         } else {
           std::memset(range->data + offset, value, static_cast<size_t>(bytes));
         }
       }});
  return Injected("FillAsync");
}

DeviceCode FakeDevice::BeginCapture(void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Spoil(stream); code != kDeviceSuccess) return code;
  static_cast<Stream*>(stream)->capture = std::make_unique<Graph>();
  static_cast<Stream*>(stream)->spoilt = false;
  return Injected("BeginCapture");
}
DeviceCode FakeDevice::EndCapture(void* stream, void** captured) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Stream& ended = *static_cast<Stream*>(stream);
  std::unique_ptr<Graph> graph = std::move(ended.capture);
  if (graph == nullptr || ended.spoilt) return kDeviceCaptureInvalidated;
  *captured = graph.release();
  return Injected("EndCapture");
}
DeviceCode FakeDevice::InstantiateGraph(void** graph, void* captured) {
  *graph = captured;
  ++graphs_captured_;
  return Injected("InstantiateGraph");
}
DeviceCode FakeDevice::LaunchGraph(void* graph, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const DeviceCode code = Spoil(stream); code != kDeviceSuccess) return code;
  ++graphs_launched_;
  for (const Command& command : static_cast<Graph*>(graph)->commands) Push(stream, command);
  return Injected("LaunchGraph");
}
DeviceCode FakeDevice::DestroyGraph(void* graph) {
  delete static_cast<Graph*>(graph);
  return failed_;
}
DeviceCode FakeDevice::Spoil(void* stream) {
  Stream& capturing = *static_cast<Stream*>(stream);
  if (capturing.capture == nullptr) return kDeviceSuccess;
  capturing.spoilt = true;
  return kDeviceCaptureUnsupported;
}

void FakeDevice::BeginRange(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Ranges& mine = ranges_[std::this_thread::get_id()];
  ++mine.begun[name];
  ++mine.open;
}
void FakeDevice::EndRange() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --ranges_[std::this_thread::get_id()].open;
}
std::map<std::thread::id, FakeDevice::Ranges> FakeDevice::ranges() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ranges_;
}

void FakeDevice::Launch(void* stream, void* arguments, size_t bytes, std::function<void()> work) {
  FakeDevice& device = *static_cast<Stream*>(stream)->device;
  void* const chosen = device.StreamOfKernel(stream);
  const std::lock_guard<std::mutex> lock(device.mutex_);
  device.TranslateWords(arguments, bytes);
  ++device.kernels_;
  device.Push(chosen, {.work = [&device, work = std::move(work)] {
                if (device.kernels_done_++ == device.options_.fails_at_kernel)
                  device.failed_ = device.options_.fails_with;
                if (device.failed_ == kDeviceSuccess) work();
              }});
}

FakeDevice& FakeDevice::Of(void* stream) { return *static_cast<Stream*>(stream)->device; }

void FakeDevice::PutWaiting(void* stream, std::function<bool()> ready, std::function<void(FakeDevice&)> work) {
  FakeDevice& device = Of(stream);
  const std::lock_guard<std::mutex> lock(device.mutex_);
  device.Push(stream, {.ready = std::move(ready), .work = [&device, work = std::move(work)] { work(device); }});
}

void FakeDevice::WantReachable(void* stream, const void* memory) {
  FakeDevice& device = *static_cast<Stream*>(stream)->device;
  const std::lock_guard<std::mutex> lock(device.mutex_);
  int64_t offset = 0;
  if (memory == nullptr || Find(device.memory_, memory, 0, &offset) != nullptr) return;
  if (Find(device.locked_, memory, 0, &offset) == nullptr) device.failed_ = kDeviceIllegalAddress;
}

std::byte* FakeDevice::Translate(const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t offset = 0;
  const Room* const range = Find(memory_, memory, 0, &offset);
  return range == nullptr ? nullptr : range->data + offset;
}

void FakeDevice::TranslateWords(void* arguments, size_t bytes) {
  for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
    char* const place = static_cast<char*>(arguments) + at;
    uintptr_t word = 0;
    std::memcpy(&word, place, sizeof(word));
    const void* const address = reinterpret_cast<const void*>(word);
    int64_t offset = 0;
    if (const Room* const range = Find(memory_, address, 0, &offset); range != nullptr) {
      word = reinterpret_cast<uintptr_t>(range->data + offset);
      std::memcpy(place, &word, sizeof(word));
    }
  }
}

const FakeDevice::Room* FakeDevice::Find(const Rooms& rooms, const void* memory, int64_t bytes, int64_t* offset) {
  const std::byte* const begin = static_cast<const std::byte*>(memory);
  auto it = rooms.upper_bound(begin);
  if (it == rooms.begin()) return nullptr;
  --it;
  *offset = begin - it->first;
  return *offset < it->second.bytes && *offset + bytes <= it->second.bytes ? &it->second : nullptr;
}

std::byte* FakeDevice::Resolve(const void* memory, int64_t bytes) {
  int64_t offset = 0;
  if (const Room* const range = Find(memory_, memory, bytes, &offset); range != nullptr) return range->data + offset;
  if (Find(memory_, memory, 0, &offset) == nullptr) return static_cast<std::byte*>(const_cast<void*>(memory));
  failed_ = kDeviceIllegalAddress;
  return nullptr;
}

void FakeDevice::Push(void* stream, Command command) {
  Stream& to = *static_cast<Stream*>(stream);
  if (to.capture != nullptr) {
    to.capture->commands.push_back(std::move(command));
  } else {
    to.commands.push_back(std::move(command));
  }
}

FakeDevice::Progress FakeDevice::WorkOnce() {
  if (random_() % 16 == 0) {
    for (const auto& stream : streams_) stream->priority = static_cast<unsigned>(random_());
  }
  Stream* chosen = nullptr;
  bool waits = false;
  for (const auto& stream : streams_) {
    if (stream->commands.empty()) continue;
    const Command& next = stream->commands.front();
    if (next.follows != nullptr && !next.follows->reached) continue;
    if (next.ready && failed_ == kDeviceSuccess && !next.ready()) {
      waits = true;
      continue;
    }
    if (chosen == nullptr || stream->priority > chosen->priority) chosen = stream.get();
  }
  if (chosen == nullptr) return waits ? Progress::kWaits : Progress::kNothing;
  const Command command = std::move(chosen->commands.front());
  chosen->commands.pop_front();
  // A device that has failed does no work, but nobody waits for it forever.
  if (command.work && failed_ == kDeviceSuccess) command.work();
  if (command.reaches) {
    command.reaches->at = std::chrono::steady_clock::now();
    command.reaches->reached = true;
  }
  return Progress::kWorked;
}

void FakeDevice::WorkUntil(const std::function<bool()>& done) {
  for (;;) {
    Progress progress = Progress::kNothing;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (done()) return;
      progress = WorkOnce();
    }
    if (progress == Progress::kNothing) return;
    if (progress == Progress::kWaits) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

}  // namespace angel_ptm
