// The threads of the blocks that run together, which of them runs next, and how faults are reported. Clusters of blocks
// run one after another; the threads of a cluster run in the order of the schedule.
//
// There is one machine per process, because the kernels' calls carry no object; a single thread of the operating system
// uses it.
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
// Agents besides the threads: bulk copies use these numbers in turn; each warpgroup's matrix unit has its own.
inline constexpr int kBulkAgents = 64, kMatrixAgents = 16;

struct SimThread {
  ThreadPlace place;
  int id = 0;     // in the cluster; also its agent
  int block = 0;  // in the cluster
  int lane = 0;
  int warp = 0;  // in the cluster
  enum class State { kRuns, kWaits, kEnded } state = State::kRuns;
  Fiber fiber;
  Past past;                               // what it knows of others
  std::uint32_t clock = 1;                 // own
  std::uint32_t fenced = 0;                // own clock at the last fence.proxy.async
  bool accumulators_in_flight = false;     // a wgmma may be adding to its registers
  std::function<std::string()> waits_for;  // for the report of a deadlock

  Epoch epoch() const { return MakeEpoch(id, clock); }
};

// One execution of an instruction that the lanes of a warp issue together.
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
inline constexpr int kNamedBarriers = 16, kAllThreads = kNamedBarriers;  // __syncthreads comes after the named ones

struct SimBlock {
  int first_thread = 0, live = 0;
  std::array<BlockBarrier, kNamedBarriers + 1> barriers;
};

// A part of the hardware that has its own state.
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

  // The running thread. May be called only inside a kernel.
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
  // Clusters are numbered across all launches, so that memory can record which one wrote it.
  std::uint32_t cluster_serial() const { return cluster_serial_; }
  std::uint32_t first_serial() const { return first_serial_; }

  // Order of events.
  Schedule schedule;
  std::uint64_t Random();
  bool in_turn() const { return schedule.order == Order::kInTurn; }
  // A point at which the schedule may continue with another thread.
  void MayYield();
  void Wait(std::function<std::string()> waits_for);
  void Wake(int thread);
  // Posts work that something other than the threads does, at a time that the schedule chooses. Returns its number.
  int Post(std::function<void()> work);
  // Does the work now unless it is already done.
  void Finish(int work);
  bool PendingWork() const { return !work_.empty(); }

  // After Release, what the thread has done happens before what the threads do that later acquire `past`.
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
