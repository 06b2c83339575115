#include "tests/cuda_emulation/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "angel_ptm/base/check.h"
#include "tests/cuda_emulation/emulator.h"

namespace angel_ptm::emulated {
namespace {

// The layout of a window: a gap, dynamic shared memory, a gap, the arrays of fixed size with gaps between them.
constexpr std::uint32_t kDynamicBegin = 1024, kArraysBegin = 230 << 10, kArrayGap = 64;
constexpr std::uint32_t kDynamicAlignment = 1024;  // APTM_DYNAMIC_SHARED
constexpr int kPoison = 0xff;
constexpr std::size_t kAllocationAlignment = 256, kAllocationGap = 512;

struct DeviceCell {
  Epoch write = 0, read = 0;
  std::uint32_t write_serial = 0;
  std::uint32_t read_serial : 30 = 0;
  std::uint32_t initialised : 1 = 0;
  std::uint32_t atomic : 1 = 0;
};

template <typename T>
T* Reserve(std::size_t count, void* where = nullptr) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (where == nullptr ? 0 : MAP_FIXED_NOREPLACE);
  void* const memory = mmap(where, count * sizeof(T), PROT_READ | PROT_WRITE, flags, -1, 0);
  APTM_CHECK(memory != MAP_FAILED && (where == nullptr || memory == where), "no address space for the emulated memory");
  return static_cast<T*>(memory);
}

struct Range {
  std::uintptr_t begin = 0;
  std::size_t bytes = 0;
  bool Holds(std::uintptr_t address, std::size_t n) const { return address >= begin && address + n <= begin + bytes; }
};

class Memory final : public Unit {
 public:
  static Memory& Get() {
    static Memory memory;
    return memory;
  }

  void StartCluster() override;

  SharedCell* shared_cells;
  DeviceCell* device_cells;
  std::uint32_t shift = 0;  // of dynamic shared memory: no kernel may count on where it starts
  std::vector<std::map<std::pair<const char*, int>, Range>> arrays;  // of each block, by where they are declared
  std::vector<std::uint32_t> arrays_end;
  std::vector<Range> allocations;  // by address; freed ones are empty
  int live_allocations = 0;
  std::uintptr_t device_end = kDeviceMemory;

 private:
  Memory()
      : shared_cells(Reserve<SharedCell>(kSharedWindow * kWindows / kCellBytes)),
        device_cells(Reserve<DeviceCell>(kDeviceBytes / kCellBytes)) {
    Reserve<char>(kArenaBytes, reinterpret_cast<void*>(kArena));
  }
};

void Memory::StartCluster() {
  constexpr std::uint32_t kShifts[] = {0, 16, 128, 512};
  Machine& machine = Machine::Get();
  shift = machine.in_turn() ? 0 : kShifts[machine.Random() % 4];
  const auto blocks = static_cast<std::size_t>(machine.blocks());
  const auto dynamic_end = static_cast<std::uint32_t>(kDynamicBegin + shift + machine.shape().shared_bytes);
  for (std::size_t rank = 0; rank < blocks; ++rank) {
    const std::uint32_t window = static_cast<std::uint32_t>(rank) * kSharedWindow;
    const std::uint32_t old_end = rank < arrays_end.size() ? arrays_end[rank] : kSharedWindow;
    for (const auto& [begin, end] : {std::pair{kDynamicBegin, dynamic_end}, std::pair{kArraysBegin, old_end}}) {
      std::memset(SharedBytes(window + begin), kPoison, end - begin);
      std::fill_n(SharedCells(window + begin), CellsIn(end - begin), SharedCell{});
    }
  }
  arrays.assign(blocks, {});
  arrays_end.assign(blocks, kArraysBegin);
}

const Range* AllocationOf(std::uintptr_t address, std::size_t bytes) {
  const std::vector<Range>& all = Memory::Get().allocations;
  auto next = std::upper_bound(all.begin(), all.end(), address,
                               [](std::uintptr_t a, const Range& range) { return a < range.begin; });
  if (next == all.begin()) return nullptr;
  const Range& range = *--next;
  return range.Holds(address, bytes) ? &range : nullptr;
}

std::string DeviceName(std::uintptr_t address) {
  const Range* nearest = nullptr;
  for (const Range& range : Memory::Get().allocations) {
    if (range.begin <= address + kAllocationGap) nearest = &range;
  }
  if (nearest == nullptr) return "no array of device memory";
  return absl::StrCat("byte ", static_cast<std::int64_t>(address - nearest->begin), " of a device array of ",
                      nearest->bytes);
}

void NoteRead(SharedCell& cell, Epoch epoch, const SimThread& thread) {
  Machine& machine = Machine::Get();
  if (cell.reads[0] == epoch || cell.reads[1] == epoch) return;
  for (Epoch& read : cell.reads) {
    if (read != 0 && !machine.HappensBefore(read, thread)) continue;
    read = epoch;
    return;
  }
  cell.reads[machine.Random() & 1] = epoch;
}

}  // namespace

Unit& MemoryUnit() { return Memory::Get(); }

SharedCell* SharedCells(std::uint32_t address) { return Memory::Get().shared_cells + address / kCellBytes; }

bool InShared(std::uint32_t address, std::size_t bytes) {
  const Memory& memory = Memory::Get();
  const std::size_t rank = address / kSharedWindow;
  if (rank >= memory.arrays.size()) return false;
  const std::uint32_t within = address % kSharedWindow, begin = kDynamicBegin + memory.shift;
  if (within >= begin && within + bytes <= begin + Machine::Get().shape().shared_bytes) return true;
  if (within < kArraysBegin) return false;
  return std::any_of(memory.arrays[rank].begin(), memory.arrays[rank].end(),
                     [&](const auto& array) { return array.second.Holds(within, bytes); });
}

std::string SharedName(std::uint32_t address) {
  const std::uint32_t within = address % kSharedWindow;
  if (within >= kArraysBegin) return absl::StrCat("byte ", within - kArraysBegin, " of the shared arrays");
  const std::int64_t byte = std::int64_t{within} - kDynamicBegin - Memory::Get().shift;
  return absl::StrCat("byte ", byte, " of ", Machine::Get().shape().shared_bytes, " of dynamic shared memory");
}

void CheckSharedWrite(std::uint32_t address, std::size_t bytes, Proxy proxy, const SimThread& thread, const char* who,
                      const void* at) {
  Machine& machine = Machine::Get();
  const SharedCell* const cells = SharedCells(address);
  const auto name = [&](std::size_t i) { return SharedName(address + static_cast<std::uint32_t>(i) * kCellBytes); };
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) {
    const SharedCell& cell = cells[i];
    if (cell.mbarrier) machine.Report(Fault::kMbarrier, at, absl::StrCat(who, " writes over an mbarrier, ", name(i)));
    if (cell.in_flight) {
      machine.Report(Fault::kRace, at, absl::StrCat(who, " writes ", name(i), " while a copy to it is under way"));
    }
    if (cell.write != 0 && !machine.HappensBefore(cell.write, thread)) {
      machine.Report(
          Fault::kRace, at,
          absl::StrCat(who, " writes ", name(i), ", not ordered after a write by ", machine.NameOf(cell.write)));
    } else if (proxy == Proxy::kAsync && cell.write != 0 && !machine.FencedBefore(cell.write, thread)) {
      machine.Report(Fault::kProxy, at,
                     absl::StrCat(who, " writes ", name(i), " after an ordinary write by ", machine.NameOf(cell.write),
                                  " without fence.proxy.async"));
    }
    for (const Epoch read : cell.reads) {
      if (read == 0 || machine.HappensBefore(read, thread)) continue;
      machine.Report(Fault::kRace, at,
                     absl::StrCat(who, " writes ", name(i), ", not ordered after a read by ", machine.NameOf(read)));
    }
  }
}

void CheckSharedRead(std::uint32_t address, std::size_t bytes, Proxy proxy, const SimThread& thread, const char* who,
                     const void* at) {
  Machine& machine = Machine::Get();
  const SharedCell* const cells = SharedCells(address);
  const auto name = [&](std::size_t i) { return SharedName(address + static_cast<std::uint32_t>(i) * kCellBytes); };
  Epoch fine = 0;
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) {
    const SharedCell& cell = cells[i];
    if (cell.in_flight) {
      machine.Report(Fault::kRace, at, absl::StrCat(who, " reads ", name(i), " while a copy to it is under way"));
    } else if (!cell.initialised) {
      machine.Report(Fault::kUninitialised, at, absl::StrCat(who, " reads ", name(i), ", which nobody wrote"));
    }
    if (cell.mbarrier) machine.Report(Fault::kMbarrier, at, absl::StrCat(who, " reads an mbarrier, ", name(i)));
    if (cell.write == 0 || cell.write == fine) continue;
    if (!machine.HappensBefore(cell.write, thread)) {
      machine.Report(
          Fault::kRace, at,
          absl::StrCat(who, " reads ", name(i), ", not ordered after a write by ", machine.NameOf(cell.write)));
    } else if (proxy == Proxy::kAsync && !machine.FencedBefore(cell.write, thread)) {
      machine.Report(Fault::kProxy, at,
                     absl::StrCat(who, " reads ", name(i), " after an ordinary write by ", machine.NameOf(cell.write),
                                  " without fence.proxy.async"));
    } else {
      fine = cell.write;
    }
  }
}

void NoteSharedWrite(std::uint32_t address, std::size_t bytes, Epoch epoch) {
  std::fill_n(SharedCells(address), CellsIn(bytes), SharedCell{.write = epoch, .initialised = true});
}

void NoteSharedRead(std::uint32_t address, std::size_t bytes, Epoch epoch, const SimThread& thread) {
  SharedCell* const cells = SharedCells(address);
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) NoteRead(cells[i], epoch, thread);
}

void SharedAccess(std::uint32_t address, std::size_t bytes, Access access, const SimThread& thread, const void* at) {
  Machine& machine = Machine::Get();
  if (!InShared(address, bytes)) {
    machine.Report(Fault::kOutOfBounds, at,
                   absl::StrCat("an access of ", bytes, " bytes at ", SharedName(address), ", outside of it"));
    return;
  }
  if (access == Access::kRead) {
    CheckSharedRead(address, bytes, Proxy::kGeneric, thread, "it", at);
    NoteSharedRead(address, bytes, thread.epoch(), thread);
    return;
  }
  if (access == Access::kWrite) {
    CheckSharedWrite(address, bytes, Proxy::kGeneric, thread, "it", at);
    NoteSharedWrite(address, bytes, thread.epoch());
    return;
  }
  SharedCell* const cells = SharedCells(address);
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) {
    SharedCell& cell = cells[i];
    if (!cell.atomic && cell.write != 0 && !machine.HappensBefore(cell.write, thread)) {
      machine.Report(Fault::kRace, at,
                     absl::StrCat("an atomic at ", SharedName(address), ", not ordered after a write by ",
                                  machine.NameOf(cell.write)));
    }
    if (!cell.initialised) {
      machine.Report(Fault::kUninitialised, at, absl::StrCat("an atomic at ", SharedName(address), ", never written"));
    }
    cell.write = thread.epoch();
    cell.atomic = true;
  }
}

bool DeviceAccess(std::uintptr_t address, std::size_t bytes, Access access, Epoch epoch, const SimThread& thread,
                  const void* at) {
  Machine& machine = Machine::Get();
  if (AllocationOf(address, bytes) == nullptr) {
    machine.Report(Fault::kOutOfBounds, at, absl::StrCat("an access of ", bytes, " bytes at ", DeviceName(address)));
    return false;
  }
  DeviceCell* const cells = Memory::Get().device_cells + (address - kDeviceMemory) / kCellBytes;
  const std::uint32_t first = machine.first_serial(), mine = machine.cluster_serial();
  const bool atomic = access == Access::kAtomic;
  const char* const what = access == Access::kRead ? "a read of " : atomic ? "an atomic at " : "a write of ";
  const auto check = [&](const char* other, Epoch by, std::uint32_t serial) {
    if (by == 0 || serial < first) return;  // of an earlier launch
    if (serial != mine) {
      machine.Report(Fault::kCrossBlock, at, absl::StrCat(what, DeviceName(address), ", ", other, " another block"));
    } else if (!machine.HappensBefore(by, thread)) {
      machine.Report(Fault::kRace, at, absl::StrCat(what, DeviceName(address), ", ", other, " ", machine.NameOf(by)));
    }
  };
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) {
    DeviceCell& cell = cells[i];
    if (access != Access::kWrite && cell.initialised == 0) {
      machine.Report(Fault::kUninitialised, at, absl::StrCat(what, DeviceName(address), ", which nobody wrote"));
    }
    if (!(atomic && cell.atomic != 0)) check("not ordered after a write by", cell.write, cell.write_serial);
    if (access == Access::kWrite) check("not ordered after a read by", cell.read, cell.read_serial);
    if (access == Access::kRead) {
      cell.read = epoch;
      cell.read_serial = mine & 0x3fffffff;
    } else {
      cell.write = epoch;
      cell.write_serial = mine;
      cell.atomic = atomic;
      cell.initialised = 1;
    }
  }
  return true;
}

void OnAccess(std::uintptr_t address, std::size_t bytes, Access access, const void* at) {
  Machine& machine = Machine::Get();
  if (!machine.in_kernel()) return;
  if (address - kArena >= kArenaBytes) {
    if (machine.self().accumulators_in_flight) CheckAccumulators(address, bytes, at);
    return;
  }
  SimThread& thread = machine.self();
  if (address % kCellBytes != 0 || bytes % kCellBytes != 0) {
    machine.Report(Fault::kAlignment, at, absl::StrCat("an access of ", bytes, " bytes: checked cells have two"));
  }
  if (address >= kDeviceMemory) {
    DeviceAccess(address, bytes, access, thread.epoch(), thread, at);
  } else {
    SharedAccess(static_cast<std::uint32_t>(address - kArena), bytes, access, thread, at);
  }
}

void OnMisaligned(std::uintptr_t address, std::size_t alignment, const void* at) {
  Machine& machine = Machine::Get();
  if (!machine.in_kernel() || address - kArena >= kArenaBytes) return;
  machine.Stop(Fault::kAlignment, at,
               absl::StrCat("an access that wants ", alignment, " bytes, at ",
                            address >= kDeviceMemory ? DeviceName(address)
                                                     : SharedName(static_cast<std::uint32_t>(address - kArena))));
}

void* SharedArray(const char* file, int line, std::size_t bytes, std::size_t alignment) {
  Machine& machine = Machine::Get();
  Memory& memory = Memory::Get();
  const auto rank = static_cast<std::size_t>(machine.self().block);
  const auto [at, is_new] = memory.arrays[rank].try_emplace({file, line});
  if (is_new) {
    std::uint32_t& end = memory.arrays_end[rank];
    const auto align = static_cast<std::uint32_t>(std::max<std::size_t>(alignment, 16));
    const std::uint32_t begin = (end + kArrayGap + align - 1) / align * align;
    end = begin + static_cast<std::uint32_t>(bytes);
    // Behind the arrays dynamic memory begins where any is aligned to.
    const LaunchShape& shape = machine.shape();
    const std::uint32_t arrays = end - kArraysBegin, unit = shape.shared_bytes > 0 ? kDynamicAlignment : 1;
    if (end > kSharedWindow || shape.shared_bytes + (arrays + unit - 1) / unit * unit > SharedBytesOf(shape)) {
      machine.Stop(Fault::kLaunch, __builtin_return_address(0), "more shared memory than a block has");
    }
    at->second = {begin, bytes};
    std::memset(SharedBytes(static_cast<std::uint32_t>(rank) * kSharedWindow + begin), kPoison, bytes);
  }
  return SharedBytes(static_cast<std::uint32_t>(rank * kSharedWindow + at->second.begin));
}

void* DynamicShared() {
  const std::uint32_t window = static_cast<std::uint32_t>(Machine::Get().self().block) * kSharedWindow;
  return SharedBytes(window + kDynamicBegin + Memory::Get().shift);
}

std::uint32_t SharedAddress(const void* pointer) {
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(pointer) - kArena;
  if (offset >= kDeviceMemory - kArena) {
    Machine::Get().Stop(Fault::kOutOfBounds, __builtin_return_address(0), "a pointer that is not to shared memory");
  }
  return static_cast<std::uint32_t>(offset);
}

void* AllocateDevice(std::size_t bytes) {
  Memory& memory = Memory::Get();
  const std::uintptr_t begin =
      (memory.device_end + kAllocationGap + kAllocationAlignment - 1) / kAllocationAlignment * kAllocationAlignment;
  APTM_CHECK(begin + bytes + kAllocationGap <= kDeviceMemory + kDeviceBytes, "the emulated device memory is full");
  memory.device_end = begin + bytes;
  memory.allocations.push_back({begin, bytes});
  ++memory.live_allocations;
  std::memset(reinterpret_cast<void*>(begin), kPoison, bytes);
  std::fill_n(memory.device_cells + (begin - kDeviceMemory) / kCellBytes, CellsIn(bytes), DeviceCell{});
  return reinterpret_cast<void*>(begin);
}

void FreeDevice(void* freed) {
  Memory& memory = Memory::Get();
  for (Range& range : memory.allocations) {
    if (range.begin == reinterpret_cast<std::uintptr_t>(freed)) range.bytes = 0;
  }
  if (--memory.live_allocations > 0) return;
  memory.allocations.clear();
  memory.device_end = kDeviceMemory;
}

void WriteDevice(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  DeviceCell* const cells =
      Memory::Get().device_cells + (reinterpret_cast<std::uintptr_t>(to) - kDeviceMemory) / kCellBytes;
  for (std::size_t i = 0; i < CellsIn(bytes); ++i) cells[i].initialised = 1;
}
void ReadDevice(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace angel_ptm::emulated
