// __syncthreads and the named barriers of a block.
#include <algorithm>

#include "tests/cuda_emulation/machine.h"
#include "tests/cuda_emulation/sabotage.h"

namespace angel_ptm::emulated {
namespace {

std::string BarrierName(int id) { return id == kAllThreads ? "__syncthreads" : absl::StrCat("named barrier ", id); }

void Open(BlockBarrier& barrier) {
  Machine& machine = Machine::Get();
  const Past past = barrier.past.Take();
  barrier.came.clear();
  for (const int id : barrier.waiting) {
    machine.Acquire(machine.thread(id), past);
    machine.Wake(id);
  }
  barrier.waiting.clear();
  barrier.wanted = barrier.arrived = 0;
}

// Arrives; with `waits`, returns once `wanted` threads have arrived.
void Arrive(int id, int wanted, bool waits, const void* at) {
  Machine& machine = Machine::Get();
  machine.MayYield();
  SimThread& thread = machine.self();
  SimBlock& block = machine.block(thread.block);
  BlockBarrier& barrier = block.barriers[static_cast<std::size_t>(id)];
  const bool all = id == kAllThreads;
  if (barrier.arrived > 0 && !all && barrier.wanted != wanted) {
    machine.Stop(Fault::kBarrier, at,
                 absl::StrCat(BarrierName(id), " for ", wanted, " threads, where others came for ", barrier.wanted));
  }
  if (!all && std::find(barrier.came.begin(), barrier.came.end(), thread.id) != barrier.came.end()) {
    machine.Stop(Fault::kBarrier, at, absl::StrCat(BarrierName(id), ": a second arrival before it opened"));
  }
  if (!all) barrier.came.push_back(thread.id);
  barrier.wanted = wanted;
  ++barrier.arrived;
  machine.Release(thread, barrier.past);
  if (waits) barrier.waiting.push_back(thread.id);
  if (barrier.arrived >= (all ? block.live : wanted)) {
    Open(barrier);
    machine.MayYield();
  } else if (waits) {
    machine.Wait([&barrier, &block, id, all] {
      return absl::StrCat(BarrierName(id), ", where ", barrier.arrived, " of ", all ? block.live : barrier.wanted,
                          " threads have arrived");
    });
  }
}

class Barriers final : public Unit {
 public:
  void EndThread(SimThread& thread) override {
    Machine& machine = Machine::Get();
    SimBlock& block = machine.block(thread.block);
    --block.live;
    BlockBarrier& barrier = block.barriers[kAllThreads];
    if (barrier.arrived == 0 || barrier.arrived < block.live) return;
    machine.Report(Fault::kBarrier, nullptr, "__syncthreads opened only because other threads had ended");
    Open(barrier);
  }

  void EndCluster() override {
    Machine& machine = Machine::Get();
    for (int rank = 0; rank < machine.blocks(); ++rank) {
      for (int id = 0; id < kNamedBarriers; ++id) {
        const BlockBarrier& barrier = machine.block(rank).barriers[static_cast<std::size_t>(id)];
        if (barrier.arrived == 0) continue;
        machine.Report(Fault::kBarrier, nullptr,
                       absl::StrCat(BarrierName(id), " still has ", barrier.arrived, " arrivals when its block ends"));
      }
    }
  }
};

}  // namespace

Unit& BarrierUnit() {
  static Barriers barriers;
  return barriers;
}

void SyncThreads() { Arrive(kAllThreads, 0, true, __builtin_return_address(0)); }

void NamedBarrier(int id, int threads, bool waits) {
  if (Planted(Sabotage::kNoNamedBarrier)) return;
  if (id < 0 || id >= kNamedBarriers || threads < 1 || threads % kLanes != 0) {
    Machine::Get().Stop(Fault::kBarrier, __builtin_return_address(0),
                        absl::StrCat("named barrier ", id, " of 0 to 15 for ", threads, " threads, not whole warps"));
  }
  Arrive(id, threads, waits, __builtin_return_address(0));
}

}  // namespace angel_ptm::emulated
