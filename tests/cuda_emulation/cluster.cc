// Clusters: blocks that run together, wait for each other and reach each other's shared memory.
#include <cstring>
#include <vector>

#include "tests/cuda_emulation/memory.h"

namespace angel_ptm::emulated {
namespace {

class Cluster final : public Unit {
 public:
  void StartCluster() override {
    waiting.clear();
    past = Gathering();
    ended = 0;
  }
  // A block's shared memory is gone when it ends.
  void EndThread(SimThread& thread) override {
    ++ended;
    if (waiting.empty()) return;
    Machine::Get().Report(Fault::kCluster, nullptr,
                          absl::StrCat("thread ", thread.id, " of the cluster ends while others wait for it"));
  }
  std::vector<int> waiting;
  Gathering past;
  int ended = 0;
};

Cluster& TheCluster() {
  static Cluster cluster;
  return cluster;
}

}  // namespace

Unit& ClusterUnit() { return TheCluster(); }

int ClusterRank() { return Machine::Get().self().block; }

void ClusterSync() {
  Machine& machine = Machine::Get();
  machine.MayYield();
  Cluster& cluster = TheCluster();
  machine.Release(machine.self(), cluster.past);
  cluster.waiting.push_back(machine.self().id);
  const auto threads = machine.threads().size();
  if (cluster.waiting.size() < threads) {
    machine.Wait([&cluster, threads] {
      return absl::StrCat("the cluster's barrier, where ", cluster.waiting.size(), " of ", threads, " threads are");
    });
    return;
  }
  const Past past = cluster.past.Take();
  for (const int id : cluster.waiting) {
    machine.Acquire(machine.thread(id), past);
    machine.Wake(id);
  }
  cluster.waiting.clear();
}

std::uint32_t MapShared(std::uint32_t address, int rank) {
  Machine& machine = Machine::Get();
  if (rank < 0 || rank >= machine.blocks()) {
    machine.Stop(Fault::kCluster, __builtin_return_address(0),
                 absl::StrCat("block ", rank, " of a cluster of ", machine.blocks()));
  }
  return address % kSharedWindow + static_cast<std::uint32_t>(rank) * kSharedWindow;
}

float LoadShared(std::uint32_t address) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  const std::uint32_t rank = address / kSharedWindow;
  if (rank < static_cast<std::uint32_t>(machine.blocks()) && machine.block(static_cast<int>(rank)).live == 0) {
    machine.Stop(Fault::kCluster, at, absl::StrCat("a read of the shared memory of block ", rank, ", which has ended"));
  }
  SharedAccess(address, sizeof(float), Access::kRead, machine.self(), at);
  float x;
  std::memcpy(&x, SharedBytes(address), sizeof(x));
  return x;
}

}  // namespace angel_ptm::emulated
