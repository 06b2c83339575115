// TMA: copies boxes of tensors between device and shared memory, with the 128-byte swizzle. A copy is checked when it
// is issued; its bytes move at some later time.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tests/cuda_emulation/mbarrier.h"
#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/swizzle.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::uint32_t kChunkBytes = 16, kBoxMax = 256, kAddressAlignment = 128;

struct Box {
  TensorMap map;  // a copy, because the kernel's may be gone when the bytes move
  std::uint32_t shared;
  std::array<int, kTensorRankMax> at;
};

std::uint32_t BytesOf(const Box& box) {
  std::uint32_t bytes = static_cast<std::uint32_t>(box.map.element_bytes);
  for (int i = 0; i < box.map.rank; ++i) bytes *= box.map.box[i];
  return bytes;
}

// Calls fn(shared address, device address, leading bytes outside of the tensor, bytes inside) for every 16 bytes.
template <typename Fn>
void ForChunks(const Box& box, const Fn& fn) {
  const TensorMap& map = box.map;
  const auto row_bytes = map.box[0] * static_cast<std::uint32_t>(map.element_bytes);
  const std::uint32_t rows = BytesOf(box) / row_bytes;
  const std::int64_t extent_bytes = static_cast<std::int64_t>(map.extent[0]) * map.element_bytes;
  for (std::uint32_t row = 0; row < rows; ++row) {
    auto device = reinterpret_cast<std::uintptr_t>(map.base);
    bool inside = true;
    std::uint32_t rest = row;
    for (int i = 1; i < map.rank; ++i) {
      const std::int64_t coordinate =
          box.at[static_cast<std::size_t>(i)] + static_cast<std::int64_t>(rest % map.box[i]);
      rest /= map.box[i];
      inside &= coordinate >= 0 && coordinate < static_cast<std::int64_t>(map.extent[i]);
      device += static_cast<std::uintptr_t>(coordinate) * map.stride_bytes[i];
    }
    for (std::uint32_t chunk = 0; chunk < row_bytes; chunk += kChunkBytes) {
      const std::int64_t begin = std::int64_t{box.at[0]} * map.element_bytes + chunk;
      const std::int64_t first = std::max<std::int64_t>(0, begin), last = std::min(extent_bytes, begin + kChunkBytes);
      const std::int64_t count = inside ? std::max<std::int64_t>(0, last - first) : 0;
      fn(Swizzled128(box.shared + row * row_bytes + chunk), device + static_cast<std::uintptr_t>(first),
         static_cast<std::size_t>(count > 0 ? first - begin : 0), static_cast<std::size_t>(count));
    }
  }
}

struct ThreadStores {
  std::vector<std::pair<int, Epoch>> open;                 // work and copy
  std::vector<std::vector<std::pair<int, Epoch>>> groups;  // committed
};

class TensorCopies final : public Unit {
 public:
  void StartCluster() override {
    stores.assign(Machine::Get().threads().size(), {});
    clocks.fill(0);
    copies = loads_in_flight = threads_ended = 0;
  }
  void EndThread(SimThread&) override {
    if (++threads_ended < static_cast<int>(Machine::Get().threads().size()) || loads_in_flight == 0) return;
    Machine::Get().Report(Fault::kTensorCopy, nullptr, "the block ends while tensor copies to it are under way");
  }
  Epoch NextCopy() {
    const int slot = copies++ % kBulkAgents;
    return MakeEpoch(Machine::Get().BulkAgent(slot), ++clocks[static_cast<std::size_t>(slot)]);
  }

  std::vector<ThreadStores> stores;
  std::array<std::uint32_t, kBulkAgents> clocks = {};
  int copies = 0, loads_in_flight = 0, threads_ended = 0;
};

TensorCopies& TheTensorCopies() {
  static TensorCopies copies;
  return copies;
}

Box CheckedBox(const TensorMap* map, std::uint32_t shared, int rank, const int* coordinates, const void* at) {
  Machine& machine = Machine::Get();
  if (map->rank != rank) {
    machine.Stop(Fault::kTensorCopy, at, absl::StrCat("a copy of rank ", rank, " with a map of rank ", map->rank));
  }
  if (shared % kAddressAlignment != 0) {
    machine.Stop(Fault::kAlignment, at,
                 absl::StrCat("a tensor copy at ", SharedName(shared), ", not 128-byte aligned"));
  }
  if (shared % kSwizzleAtom != 0) {
    machine.Report(Fault::kAlignment, at,
                   absl::StrCat("a swizzled box at ", SharedName(shared), ", not 1024-byte aligned"));
  }
  Box box = {*map, shared, {}};
  for (int i = 0; i < rank; ++i) box.at[static_cast<std::size_t>(i)] = coordinates[i];
  if (!InShared(shared, BytesOf(box))) {
    machine.Stop(Fault::kOutOfBounds, at,
                 absl::StrCat("a box of ", BytesOf(box), " bytes at ", SharedName(shared), " does not fit"));
  }
  return box;
}

}  // namespace

Unit& TensorCopyUnit() { return TheTensorCopies(); }

void EncodeTensorMap(TensorMap* map, const void* base, int element_bytes, int rank, const std::uint64_t* extent,
                     const std::uint64_t* stride_bytes, const std::uint32_t* box) {
  Machine& machine = Machine::Get();
  const auto refuse = [&](const std::string& why) {
    machine.Report(Fault::kTensorCopy, nullptr, "a tensor map: " + why);
  };
  *map = {.base = base, .rank = rank, .element_bytes = element_bytes};
  if (rank < 1 || rank > kTensorRankMax) return refuse(absl::StrCat("of rank ", rank));
  if (reinterpret_cast<std::uintptr_t>(base) % kChunkBytes != 0) refuse("its base is not 16-byte aligned");
  for (int i = 0; i < rank; ++i) {
    map->extent[i] = extent[i];
    map->box[i] = box[i];
    map->stride_bytes[i] = i == 0 ? static_cast<std::uint64_t>(element_bytes) : stride_bytes[i - 1];
    if (extent[i] == 0) refuse(absl::StrCat("dimension ", i, " is empty"));
    if (box[i] < 1 || box[i] > kBoxMax) refuse(absl::StrCat("a box of ", box[i], " in dimension ", i));
    if (i > 0 && stride_bytes[i - 1] % kChunkBytes != 0)
      refuse(absl::StrCat("a stride of ", stride_bytes[i - 1], " bytes"));
    if (i > 1 && stride_bytes[i - 1] % stride_bytes[i - 2] != 0)
      refuse(absl::StrCat("a stride of ", stride_bytes[i - 1], " bytes over one of ", stride_bytes[i - 2]));
  }
  const std::uint32_t row_bytes = box[0] * static_cast<std::uint32_t>(element_bytes);
  if (row_bytes % kChunkBytes != 0 || row_bytes > kSwizzleSpan) refuse(absl::StrCat("rows of ", row_bytes, " bytes"));
}

void TensorLoad(std::uint32_t to, const TensorMap* map, std::uint32_t barrier, int rank, const int* coordinates) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  machine.MayYield();
  SimThread& self = machine.self();
  CheckCopyBarrier(barrier, at);
  const Box box = CheckedBox(map, to, rank, coordinates, at);
  TensorCopies& unit = TheTensorCopies();
  const Epoch copy = unit.NextCopy();
  ForChunks(box, [&](std::uint32_t shared, std::uintptr_t device, std::size_t, std::size_t count) {
    CheckSharedWrite(shared, kChunkBytes, Proxy::kAsync, self, "a tensor copy", at);
    for (std::size_t i = 0; i < CellsIn(kChunkBytes); ++i) SharedCells(shared)[i].in_flight = true;
    if (count > 0 && !DeviceAccess(device, count, Access::kRead, copy, self, at)) {
      machine.Stop(Fault::kTensorCopy, at, "a tensor map is larger than its array");
    }
  });
  ++unit.loads_in_flight;
  machine.Post([box, barrier, copy, &unit, issuer = CopyIssuer{self.past, self.id, self.clock, self.fenced}] {
    ForChunks(box, [&](std::uint32_t shared, std::uintptr_t device, std::size_t skipped, std::size_t count) {
      std::memset(SharedBytes(shared), 0, kChunkBytes);
      std::memcpy(SharedBytes(shared) + skipped, reinterpret_cast<const void*>(device), count);
      NoteSharedWrite(shared, kChunkBytes, copy);
    });
    --unit.loads_in_flight;
    CompleteBytes(barrier, BytesOf(box), issuer, copy);
  });
  machine.MayYield();
}

void TensorStore(const TensorMap* map, std::uint32_t from, int rank, const int* coordinates) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  SimThread& self = machine.self();
  const Box box = CheckedBox(map, from, rank, coordinates, at);
  TensorCopies& unit = TheTensorCopies();
  const Epoch copy = unit.NextCopy();
  ForChunks(box, [&](std::uint32_t shared, std::uintptr_t device, std::size_t, std::size_t count) {
    CheckSharedRead(shared, kChunkBytes, Proxy::kAsync, self, "a tensor copy", at);
    NoteSharedRead(shared, kChunkBytes, copy, self);
    if (count > 0 && !DeviceAccess(device, count, Access::kWrite, copy, self, at)) {
      machine.Stop(Fault::kTensorCopy, at, "a tensor map is larger than its array");
    }
  });
  const int work = machine.Post([box] {
    ForChunks(box, [&](std::uint32_t shared, std::uintptr_t device, std::size_t skipped, std::size_t count) {
      std::memcpy(reinterpret_cast<void*>(device), SharedBytes(shared) + skipped, count);
    });
  });
  unit.stores[static_cast<std::size_t>(self.id)].open.emplace_back(work, copy);
}

void BulkCommit() {
  ThreadStores& mine = TheTensorCopies().stores[static_cast<std::size_t>(Machine::Get().self().id)];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void BulkWait(int groups_left) {
  Machine& machine = Machine::Get();
  machine.MayYield();
  SimThread& self = machine.self();
  const auto& groups = TheTensorCopies().stores[static_cast<std::size_t>(self.id)].groups;
  for (int i = 0; i < static_cast<int>(groups.size()) - groups_left; ++i) {
    for (const auto& [work, copy] : groups[static_cast<std::size_t>(i)]) {
      machine.Finish(work);
      machine.Acquire(self, machine.PastOf(AgentOf(copy), ClockOf(copy)));
    }
  }
}

}  // namespace angel_ptm::emulated
