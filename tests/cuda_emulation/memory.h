// Shared and device memory of the emulated GPU, with a record, for every two bytes, of who wrote and read them last.
// The compiler reports every load and store of a kernel (hooks.cc); instructions that the kernel calls report their
// own.
//
// All memory lies at one fixed place, the blocks' shared memories first. A shared address, as instructions take it, is
// the distance from that place and identifies the block.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_MEMORY_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "tests/cuda_emulation/clocks.h"
#include "tests/cuda_emulation/machine.h"

namespace angel_ptm::emulated {

inline constexpr std::uintptr_t kArena = 0x600000000000;
inline constexpr std::uint32_t kSharedWindow = 256 << 10;  // per block
inline constexpr int kWindows = 16;
inline constexpr std::uintptr_t kDeviceMemory = kArena + std::uintptr_t{kSharedWindow} * kWindows;
inline constexpr std::size_t kDeviceBytes = std::size_t{512} << 20,
                             kArenaBytes = kSharedWindow * kWindows + kDeviceBytes;
inline constexpr std::uint32_t kCellBytes = 2;

struct SharedCell {
  Epoch write = 0;
  Epoch reads[2] = {};
  bool initialised = false;
  bool in_flight = false;  // an asynchronous copy will write it
  bool mbarrier = false;   // part of an mbarrier
  bool atomic = false;     // the last write was atomic
};

enum class Access { kRead, kWrite, kAtomic };
// The path to memory: that of the threads' own accesses, or that of TMA and wgmma.
enum class Proxy { kGeneric, kAsync };

// Checks an access of the running thread at any address. Outside of the arena, in host memory, only accesses to wgmma
// accumulators are checked.
void OnAccess(std::uintptr_t address, std::size_t bytes, Access access, const void* at);

// Reports an access of a type that requires another alignment.
void OnMisaligned(std::uintptr_t address, std::size_t alignment, const void* at);

// Checks that the access is not to registers that a wgmma in flight adds to.
void CheckAccumulators(std::uintptr_t address, std::size_t bytes, const void* at);

// Shared memory by address.
inline char* SharedBytes(std::uint32_t address) { return reinterpret_cast<char*>(kArena + address); }
bool InShared(std::uint32_t address, std::size_t bytes);
SharedCell* SharedCells(std::uint32_t address);
inline std::size_t CellsIn(std::size_t bytes) { return (bytes + kCellBytes - 1) / kCellBytes; }
// For example "byte 64 of shared memory", counted as the kernel counts.
std::string SharedName(std::uint32_t address);
void SharedAccess(std::uint32_t address, std::size_t bytes, Access access, const SimThread& thread, const void* at);
// Checks whether a write, or read, of these bytes by `who` would be correct now for `thread`, which issues it. The
// bytes are in shared memory.
void CheckSharedWrite(std::uint32_t address, std::size_t bytes, Proxy proxy, const SimThread& thread, const char* who,
                      const void* at);
void CheckSharedRead(std::uint32_t address, std::size_t bytes, Proxy proxy, const SimThread& thread, const char* who,
                     const void* at);
void NoteSharedWrite(std::uint32_t address, std::size_t bytes, Epoch epoch);
void NoteSharedRead(std::uint32_t address, std::size_t bytes, Epoch epoch, const SimThread& thread);

// Device memory. Returns false, with a report, if the access is not inside one array.
bool DeviceAccess(std::uintptr_t address, std::size_t bytes, Access access, Epoch epoch, const SimThread& thread,
                  const void* at);
inline bool IsDevice(std::uintptr_t address) { return address - kDeviceMemory < kDeviceBytes; }

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_MEMORY_H_
