// cp.async. A copy is in flight until its thread waits for it; only then does it count as a write by that thread.
#include <cstring>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/sabotage.h"

namespace angel_ptm::emulated {
namespace {

struct Copy {
  std::uint32_t to;
  const void* from;
  std::size_t bytes, source_bytes;
  int group;
};
struct Copies {
  std::vector<Copy> under_way;
  int group = 0;  // the group that the next copy belongs to
};

class CopyAsyncs final : public Unit {
 public:
  void StartCluster() override { of_thread.assign(Machine::Get().threads().size(), {}); }
  void EndThread(SimThread& thread) override {
    if (of_thread[static_cast<std::size_t>(thread.id)].under_way.empty()) return;
    Machine::Get().Report(Fault::kAsyncCopy, nullptr, "the thread ends before its cp.async are waited for");
  }
  Copies& mine() { return of_thread[static_cast<std::size_t>(Machine::Get().self().id)]; }

  std::vector<Copies> of_thread;
};

CopyAsyncs& TheCopies() {
  static CopyAsyncs copies;
  return copies;
}

}  // namespace

Unit& CopyAsyncUnit() { return TheCopies(); }

void CopyAsync(std::uint32_t to, const void* from, int bytes, int source_bytes) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  SimThread& thread = machine.self();
  const auto source = reinterpret_cast<std::uintptr_t>(from);
  const auto count = static_cast<std::size_t>(bytes);
  if (to % count != 0 || (source_bytes > 0 && source % count != 0)) {
    machine.Stop(Fault::kAlignment, at, absl::StrCat("cp.async of ", bytes, " bytes: an address is not so aligned"));
  }
  if (!InShared(to, count)) machine.Stop(Fault::kOutOfBounds, at, absl::StrCat("cp.async to ", SharedName(to)));
  if (source_bytes > 0) {
    if (!IsDevice(source)) machine.Stop(Fault::kOutOfBounds, at, "cp.async from no device memory");
    if (!DeviceAccess(source, static_cast<std::size_t>(source_bytes), Access::kRead, thread.epoch(), thread, at))
      return;
  }
  CheckSharedWrite(to, count, Proxy::kGeneric, thread, "cp.async", at);
  SharedCell* const cells = SharedCells(to);
  for (std::size_t i = 0; i < CellsIn(count); ++i) cells[i].in_flight = true;
  Copies& mine = TheCopies().mine();
  mine.under_way.push_back({to, from, count, static_cast<std::size_t>(source_bytes), mine.group});
}

void CopyAsyncCommit() { ++TheCopies().mine().group; }

void CopyAsyncWait(int groups_left) {
  if (Planted(Sabotage::kNoCopyWait)) return;
  Machine& machine = Machine::Get();
  machine.MayYield();
  Copies& mine = TheCopies().mine();
  std::vector<Copy> left;
  for (const Copy& copy : mine.under_way) {
    if (copy.group >= mine.group - groups_left) {
      left.push_back(copy);
      continue;
    }
    std::memset(SharedBytes(copy.to), 0, copy.bytes);
    if (copy.source_bytes > 0) std::memcpy(SharedBytes(copy.to), copy.from, copy.source_bytes);
    NoteSharedWrite(copy.to, copy.bytes, machine.self().epoch());
  }
  mine.under_way = std::move(left);
}

}  // namespace angel_ptm::emulated
