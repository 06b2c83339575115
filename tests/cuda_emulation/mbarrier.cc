// Barriers in shared memory (PTX ISA, mbarrier). A phase is complete when no arrivals and no bytes are outstanding. A
// wait for a parity passes while the current phase has the other parity.
#include "tests/cuda_emulation/mbarrier.h"

#include <cstdlib>
#include <map>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/sabotage.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::size_t kMbarrierBytes = 8;
constexpr std::int64_t kBytesMax = 1 << 20;
constexpr std::uint32_t kArrivalsMax = (1 << 20) - 1;

struct Mbarrier {
  int arrivals = 0, pending = 0;
  std::int64_t bytes = 0;  // outstanding; negative while more arrived than was expected
  bool counts_bytes = false;
  std::uint32_t phase = 0;
  Gathering past;
  Past completed;  // of those who arrived in complete phases
  Epoch initialised = 0;
  bool fenced = false;  // the initialisation is visible to the asynchronous proxy
  bool awaited = true;  // somebody waited for the last complete phase
  std::vector<int> waiting;
};

class Mbarriers final : public Unit {
 public:
  void StartCluster() override { all.clear(); }
  void EndCluster() override {
    for (const auto& [address, barrier] : all) {
      if (!barrier.awaited && barrier.counts_bytes) {
        Machine::Get().Report(
            Fault::kMbarrier, nullptr,
            absl::StrCat("nobody waited for the last copies to the mbarrier at ", SharedName(address)));
      }
      if (barrier.bytes == 0) continue;
      Machine::Get().Report(Fault::kMbarrier, nullptr,
                            absl::StrCat("the mbarrier at ", SharedName(address), " expects ", barrier.bytes,
                                         " bytes more when its block ends"));
    }
  }
  std::map<std::uint32_t, Mbarrier> all;
};

Mbarriers& TheMbarriers() {
  static Mbarriers barriers;
  return barriers;
}

Mbarrier& Find(std::uint32_t address, const char* what, const void* at) {
  Machine& machine = Machine::Get();
  const auto found = TheMbarriers().all.find(address);
  if (found == TheMbarriers().all.end()) {
    machine.Stop(Fault::kMbarrier, at, absl::StrCat(what, ": no mbarrier at ", SharedName(address)));
  }
  if (!machine.HappensBefore(found->second.initialised, machine.self())) {
    machine.Report(Fault::kMbarrier, at,
                   absl::StrCat(what, ": the mbarrier at ", SharedName(address), " is not ordered after its init"));
  }
  return found->second;
}

void CompletePhases(Mbarrier& barrier, std::uint32_t address, const void* at) {
  Machine& machine = Machine::Get();
  if (std::llabs(barrier.bytes) >= kBytesMax) {
    machine.Report(Fault::kMbarrier, at,
                   absl::StrCat("the mbarrier at ", SharedName(address), " counts too many bytes"));
  }
  while (barrier.pending == 0 && barrier.bytes == 0) {
    if (!barrier.awaited) {
      machine.Report(Fault::kMbarrier, at,
                     absl::StrCat("phase ", barrier.phase, " of the mbarrier at ", SharedName(address),
                                  " is complete and nobody waited for the one before"));
    }
    barrier.awaited = !barrier.waiting.empty();
    ++barrier.phase;
    barrier.pending = barrier.arrivals;
    if (barrier.completed != nullptr) barrier.past.Add(barrier.completed);
    barrier.completed = barrier.past.Take();
    for (const int thread : barrier.waiting) machine.Wake(thread);
    barrier.waiting.clear();
  }
}

void FenceInits() {
  const int self = Machine::Get().self().id;
  for (auto& [address, barrier] : TheMbarriers().all) {
    if (AgentOf(barrier.initialised) == self) barrier.fenced = true;
  }
}

}  // namespace

Unit& MbarrierUnit() { return TheMbarriers(); }

void MbarrierInit(std::uint32_t address, std::uint32_t arrivals) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  if (address % kMbarrierBytes != 0) machine.Stop(Fault::kAlignment, at, "an mbarrier is not aligned to 8 bytes");
  if (!InShared(address, kMbarrierBytes)) machine.Stop(Fault::kOutOfBounds, at, "an mbarrier outside of shared memory");
  if (arrivals == 0 || arrivals > kArrivalsMax) {
    machine.Report(Fault::kMbarrier, at, absl::StrCat("an mbarrier for ", arrivals, " arrivals"));
  }
  const auto [entry, is_new] = TheMbarriers().all.try_emplace(address);
  if (!is_new) machine.Report(Fault::kMbarrier, at, absl::StrCat("a second init of ", SharedName(address)));
  SimThread& self = machine.self();
  CheckSharedWrite(address, kMbarrierBytes, Proxy::kGeneric, self, "an mbarrier's init", at);
  NoteSharedWrite(address, kMbarrierBytes, self.epoch());
  for (std::size_t i = 0; i < CellsIn(kMbarrierBytes); ++i) SharedCells(address)[i].mbarrier = true;
  Mbarrier& barrier = entry->second;
  barrier.arrivals = barrier.pending = static_cast<int>(arrivals);
  barrier.initialised = self.epoch();
}

void MbarrierArrive(std::uint32_t address, std::uint32_t expected_bytes) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  if (expected_bytes == 0 && Planted(Sabotage::kNoRelease)) return;
  if (expected_bytes > 0 && Planted(Sabotage::kTooManyBytes)) expected_bytes += 16;
  if (Planted(Sabotage::kTooFewBytes)) expected_bytes /= 2;
  machine.MayYield();
  Mbarrier& barrier = Find(address, "an arrival", at);
  barrier.bytes += expected_bytes;
  machine.Release(machine.self(), barrier.past);
  if (--barrier.pending < 0) {
    machine.Stop(Fault::kMbarrier, at,
                 absl::StrCat("an arrival more than the ", barrier.arrivals, " of phase ", barrier.phase,
                              " of the mbarrier at ", SharedName(address)));
  }
  CompletePhases(barrier, address, at);
  machine.MayYield();
}

void MbarrierWait(std::uint32_t address, std::uint32_t parity) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  if (Planted(Sabotage::kNoMbarrierWait)) return;
  if (Planted(Sabotage::kOtherParity)) parity ^= 1;
  machine.MayYield();
  Mbarrier& barrier = Find(address, "a wait", at);
  if (parity > 1) machine.Stop(Fault::kMbarrier, at, absl::StrCat("a wait for parity ", parity));
  while ((barrier.phase & 1) == parity) {
    barrier.waiting.push_back(machine.self().id);
    machine.Wait([&barrier, address, parity] {
      return absl::StrCat("parity ", parity, " of the mbarrier at ", SharedName(address), ", in phase ", barrier.phase,
                          " with ", barrier.pending, " of ", barrier.arrivals, " arrivals and ", barrier.bytes,
                          " bytes outstanding");
    });
  }
  if (barrier.phase > 0) barrier.awaited = true;
  if (barrier.completed != nullptr) machine.Acquire(machine.self(), barrier.completed);
}

void FenceMbarrierInit() {
  if (!Planted(Sabotage::kNoInitFence)) FenceInits();
}

void FenceProxyAsync() {
  if (Planted(Sabotage::kNoProxyFence)) return;
  SimThread& self = Machine::Get().self();
  self.fenced = self.clock++;
  FenceInits();
}

void CheckCopyBarrier(std::uint32_t address, const void* at) {
  if (Find(address, "a bulk copy", at).fenced) return;
  Machine::Get().Report(Fault::kMbarrier, at,
                        absl::StrCat("a bulk copy uses the mbarrier at ", SharedName(address),
                                     ", whose init no fence.mbarrier_init followed"));
}

void CompleteBytes(std::uint32_t address, std::int64_t bytes, const CopyIssuer& issuer, Epoch copy) {
  Mbarrier& barrier = TheMbarriers().all.at(address);
  barrier.past.Add(issuer.past);
  barrier.past.AddAgent(issuer.thread, issuer.clock, issuer.fenced);
  barrier.past.AddAgent(AgentOf(copy), ClockOf(copy), 0);
  barrier.bytes -= bytes;
  barrier.counts_bytes = true;
  CompletePhases(barrier, address, nullptr);
}

}  // namespace angel_ptm::emulated
