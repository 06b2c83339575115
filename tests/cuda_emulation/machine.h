// The threads of the blocks that run together, who runs next, and how faults are reported. Blocks run one cluster after
// another; a cluster's threads in the order of the schedule.
//
// One machine for the process, since the kernels' calls carry no object; one thread of the system uses it.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_MACHINE_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_MACHINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/emulated.h"
#include "tests/cuda_emulation/clocks.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/findings.h"

namespace angel_ptm::emulated {

// Of a block: what it has unasked, and asked for by a kernel of sm_80, which is one without setmaxnreg, and of sm_90.
inline constexpr std::size_t kSharedBytesUnasked = 48 << 10, kSharedBytesSm80 = 163 << 10, kSharedBytesMax = 227 << 10;
inline std::size_t SharedBytesOf(const LaunchShape& shape) {
  if (!shape.asks_for_shared) return kSharedBytesUnasked;
  return shape.registers > 0 ? kSharedBytesMax : kSharedBytesSm80;
}
inline constexpr int kLanes = 32, kWarpgroup = 128, kThreadsMax = 1024;
// Agents besides the threads: bulk copies take these in turn; warpgroups' matrix units have one each.
inline constexpr int kBulkAgents = 64, kMatrixAgents = 16;

struct SimThread {
  ThreadPlace place;
  int id = 0;     // in the cluster: its agent
  int block = 0;  // in the cluster
  int lane = 0;
  int warp = 0;  // in the cluster
  enum class State { kRuns, kWaits, kEnded } state = State::kRuns;
  Fiber fiber;
  Past past;                               // of others
  std::uint32_t clock = 1;                 // own
  std::uint32_t fenced = 0;                // own clock at the last fence.proxy.async
  bool accumulators_in_flight = false;     // of wgmma
  std::function<std::string()> waits_for;  // for the report of a deadlock

  Epoch epoch() const { return MakeEpoch(id, clock); }
};

// One use of an instruction that a warp's lanes issue together.
struct Collective {
  std::uint32_t mask = 0, arrived = 0;
  const char* name = nullptr;
  int parameter = 0;
  const void* at = nullptr;
  std::array<void*, kLanes> operands = {};
};

struct Warp {
  std::uint32_t runnable = 0, ended = 0;
  int priority = 0;
  std::array<Collective, 4> collectives;  // of disjoint lanes
};

struct BlockBarrier {
  int wanted = 0, arrived = 0;
  std::vector<int> waiting, came;
  Gathering past;
};
inline constexpr int kNamedBarriers = 16, kAllThreads = kNamedBarriers;  // __syncthreads is beside the named ones

struct SimBlock {
  int first_thread = 0, live = 0;
  std::array<BlockBarrier, kNamedBarriers + 1> barriers;
};

// A part of the hardware with state of its own.
class Unit {
 public:
  virtual ~Unit() = default;
  virtual void StartCluster() {}
  virtual void EndThread(SimThread&) {}
  virtual void EndCluster() {}
};

class Machine {
 public:
  static Machine& Get();

  std::vector<Finding> Emulate(const Schedule& with, const std::function<void()>& launches);
  void Launch(const LaunchShape& shape, const std::function<void()>& thread_body);

  // The running thread. Only inside a kernel.
  SimThread& self() { return *current_; }
  bool in_kernel() const { return current_ != nullptr; }
  SimThread& thread(int id) { return threads_[static_cast<std::size_t>(id)]; }
  std::vector<SimThread>& threads() { return threads_; }
  Warp& warp(int id) { return warps_[static_cast<std::size_t>(id)]; }
  SimBlock& block(int rank) { return blocks_[static_cast<std::size_t>(rank)]; }
  int blocks() const { return static_cast<int>(blocks_.size()); }
  int block_threads() const { return block_threads_; }
  int agents() const { return static_cast<int>(threads_.size()) + kBulkAgents + kMatrixAgents; }
  int BulkAgent(int copy) const { return static_cast<int>(threads_.size()) + copy % kBulkAgents; }
  int MatrixAgent(int group) const { return static_cast<int>(threads_.size()) + kBulkAgents + group; }
  const LaunchShape& shape() const { return shape_; }
  // Clusters are numbered through all launches, so that memory can note who wrote it.
  std::uint32_t cluster_serial() const { return cluster_serial_; }
  std::uint32_t first_serial() const { return first_serial_; }

  // Order of events.
  Schedule schedule;
  std::uint64_t Random();
  bool in_turn() const { return schedule.order == Order::kInTurn; }
  // The schedule may go on with another thread.
  void MayYield();
  void Wait(std::function<std::string()> waits_for);
  void Wake(int thread);
  // Work that something beside the threads does, at some time that the schedule says. Returns its number.
  int Post(std::function<void()> work);
  // Does it now unless it is done.
  void Finish(int work);
  bool PendingWork() const { return !work_.empty(); }

  // What the thread did happens before what those do who take `past`.
  void Release(SimThread& thread, Gathering& past);
  void Acquire(SimThread& thread, const Past& past) { thread.past = Joined(thread.past, past); }
  bool HappensBefore(Epoch epoch, const SimThread& thread) const;
  bool FencedBefore(Epoch epoch, const SimThread& thread) const;

  // A past in which only this agent's clock is known.
  Past PastOf(int agent, std::uint32_t agent_clock) const;

  // Reports. `at` is the return address of the kernel's call.
  Findings findings;
  void Report(Fault fault, const void* at, const std::string& text);
  [[noreturn]] void Stop(Fault fault, const void* at, const std::string& text);
  std::string NameOf(Epoch epoch) const;
  std::string NameOf(const SimThread& thread) const;

 private:
  Machine();
  void RunCluster(std::uint32_t cluster);
  void StartThread(int id, std::uint32_t first_block);
  static void FiberMain();
  void EndThread();
  void Switch();
  SimThread* Next();
  int NextWarp();
  void DoSomeWork();
  [[noreturn]] void ReportDeadlock();
  [[noreturn]] void Leave();

  FiberStacks stacks_;
  Fiber host_;
  std::vector<SimThread> threads_;
  std::vector<Warp> warps_;
  std::vector<SimBlock> blocks_;
  std::vector<std::pair<int, std::function<void()>>> work_;
  int next_work_ = 0;
  SimThread* current_ = nullptr;
  int current_warp_ = 0, ended_ = 0, block_threads_ = 0;
  bool stopped_ = false;
  LaunchShape shape_;
  const std::function<void()>* body_ = nullptr;
  std::uint32_t cluster_serial_ = 0, next_serial_ = 1, first_serial_ = 1;
  std::uint64_t random_ = 1;
};

// The parts of the hardware.
Unit& MemoryUnit();
Unit& BarrierUnit();
Unit& CopyAsyncUnit();
Unit& MbarrierUnit();
Unit& TensorCopyUnit();
Unit& WgmmaUnit();
Unit& RegisterUnit();
Unit& ClusterUnit();

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_MACHINE_H_
