#include "tests/cuda_emulation/machine.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "angel_ptm/base/check.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::uint64_t kSeedStep = 0x9E3779B97F4A7C15u;  // splitmix64 (Steele et al. 2014)

Unit* const* Units() {
  static Unit* const units[] = {&MemoryUnit(), &BarrierUnit(),  &CopyAsyncUnit(), &MbarrierUnit(), &TensorCopyUnit(),
                                &WgmmaUnit(),  &RegisterUnit(), &ClusterUnit(),   nullptr};
  return units;
}

unsigned Count(const Index& extent) { return extent.x * extent.y * extent.z; }
Index At(unsigned i, const Index& extent) { return {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y}; }

// "0-31 64".
std::string Ranges(const std::vector<int>& ids) {
  std::string text;
  for (std::size_t i = 0; i < ids.size();) {
    std::size_t end = i + 1;
    while (end < ids.size() && ids[end] == ids[end - 1] + 1) ++end;
    absl::StrAppend(&text, text.empty() ? "" : " ", ids[i]);
    if (end - i > 1) absl::StrAppend(&text, "-", ids[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace

Machine& Machine::Get() {
  static Machine machine;
  return machine;
}

Machine::Machine() = default;

std::uint64_t Machine::Random() {
  std::uint64_t z = random_ += kSeedStep;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void Machine::Launch(const LaunchShape& shape, const std::function<void()>& thread_body) {
  if (stopped_) return;
  shape_ = shape;
  body_ = &thread_body;
  block_threads_ = static_cast<int>(Count(shape.block));
  const unsigned blocks = Count(shape.grid);
  const int threads = block_threads_ * shape.cluster;
  if (blocks == 0 || block_threads_ < 1 || block_threads_ > kThreadsMax || shape.cluster < 1 ||
      shape.grid.x % static_cast<unsigned>(shape.cluster) != 0 || shape.shared_bytes > SharedBytesOf(shape) ||
      threads + kBulkAgents + kMatrixAgents > std::min(kAgentsMax, kFibersMax)) {
    Report(Fault::kLaunch, nullptr,
           absl::StrCat(blocks, " blocks of ", block_threads_, " threads and ", shape.shared_bytes,
                        " bytes of shared memory in clusters of ", shape.cluster));
    return;
  }
  const std::uint32_t clusters = blocks / static_cast<unsigned>(shape.cluster);
  first_serial_ = next_serial_;
  next_serial_ += clusters;
  std::vector<std::uint32_t> order(clusters);
  std::iota(order.begin(), order.end(), 0u);
  if (!in_turn()) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[Random() % i]);
  }
  for (const std::uint32_t cluster : order) {
    if (!stopped_) RunCluster(cluster);
  }
}

std::vector<Finding> Machine::Emulate(const Schedule& with, const std::function<void()>& launches) {
  schedule = with;
  random_ = with.seed;
  findings.Clear();
  stopped_ = false;
  launches();
  return findings.all();
}

void Machine::StartThread(int id, std::uint32_t first_block) {
  SimThread& thread = threads_[static_cast<std::size_t>(id)];
  thread.id = id;
  thread.block = id / block_threads_;
  const int in_block = id % block_threads_;
  const int warps_per_block = (block_threads_ + kLanes - 1) / kLanes;
  thread.lane = in_block % kLanes;
  thread.warp = thread.block * warps_per_block + in_block / kLanes;
  thread.place = {.thread = At(static_cast<unsigned>(in_block), shape_.block),
                  .block = At(first_block + static_cast<unsigned>(thread.block), shape_.grid),
                  .block_dim = shape_.block,
                  .grid_dim = shape_.grid};
  warps_[static_cast<std::size_t>(thread.warp)].runnable |= 1u << thread.lane;
  thread.fiber = stacks_.Start(id, &Machine::FiberMain);
}

void Machine::RunCluster(std::uint32_t cluster) {
  cluster_serial_ = first_serial_ + cluster;
  const int threads = block_threads_ * shape_.cluster;
  threads_.assign(static_cast<std::size_t>(threads), SimThread{});
  warps_.assign(static_cast<std::size_t>((block_threads_ + kLanes - 1) / kLanes * shape_.cluster), Warp{});
  blocks_.clear();
  blocks_.resize(static_cast<std::size_t>(shape_.cluster));
  for (int i = 0; i < shape_.cluster; ++i) block(i).first_thread = i * block_threads_, block(i).live = block_threads_;
  work_.clear();
  ended_ = current_warp_ = 0;
  const Past nothing = std::make_shared<Clocks>(agents());
  for (int id = 0; id < threads; ++id) {
    StartThread(id, cluster * static_cast<unsigned>(shape_.cluster));
    threads_[static_cast<std::size_t>(id)].past = nothing;
  }
  for (Warp& warp : warps_) warp.priority = static_cast<int>(Random() % 1000);
  for (Unit* const* unit = Units(); *unit != nullptr; ++unit) (*unit)->StartCluster();
  current_ = Next();
  SwitchFiber(host_, current_->fiber);
  current_ = nullptr;
  if (stopped_) return;
  while (!work_.empty()) Finish(work_.back().first);
  for (Unit* const* unit = Units(); *unit != nullptr; ++unit) (*unit)->EndCluster();
}

void Machine::FiberMain() {
  (*Get().body_)();
  Get().EndThread();
  APTM_CHECK(false, "an ended thread ran on");
}

void Machine::EndThread() {
  SimThread& thread = self();
  for (Unit* const* unit = Units(); *unit != nullptr; ++unit) (*unit)->EndThread(thread);
  thread.state = SimThread::State::kEnded;
  warp(thread.warp).runnable &= ~(1u << thread.lane);
  warp(thread.warp).ended |= 1u << thread.lane;
  ++ended_;
  Switch();
}

void Machine::DoSomeWork() {
  const std::size_t i = in_turn() ? 0 : Random() % work_.size();
  Finish(work_[i].first);
}

int Machine::Post(std::function<void()> work) {
  work_.emplace_back(next_work_, std::move(work));
  return next_work_++;
}

void Machine::Finish(int work) {
  const auto at = std::find_if(work_.begin(), work_.end(), [&](const auto& entry) { return entry.first == work; });
  if (at == work_.end()) return;
  const std::function<void()> run = std::move(at->second);
  work_.erase(at);
  run();
}

// The index of a warp with a thread that can run, or -1.
int Machine::NextWarp() {
  const int warps = static_cast<int>(warps_.size());
  if (schedule.order == Order::kLate) {
    if (Random() % 256 == 0) warps_[Random() % warps_.size()].priority = static_cast<int>(Random() % 1000);
    int best = -1;
    for (int i = 0; i < warps; ++i) {
      if (warp(i).runnable != 0 && (best < 0 || warp(i).priority > warp(best).priority)) best = i;
    }
    return best;
  }
  if (warp(current_warp_).runnable != 0 && (in_turn() || Random() % 64 != 0)) return current_warp_;
  const int start = in_turn() ? current_warp_ : static_cast<int>(Random() % warps_.size());
  for (int i = 0; i < warps; ++i) {
    if (warp((start + i) % warps).runnable != 0) return (start + i) % warps;
  }
  return -1;
}

// Returns null when all threads have ended.
SimThread* Machine::Next() {
  for (;;) {
    if (!work_.empty()) {
      const std::uint64_t pause = in_turn() ? 1 : schedule.order == Order::kRandom ? 8 : 512;
      if (Random() % pause == 0) DoSomeWork();
    }
    const int next = NextWarp();
    if (next >= 0) {
      current_warp_ = next;
      const int turn = in_turn() ? 0 : static_cast<int>(Random() % kLanes);
      const int lane = (std::countr_zero(std::rotr(warp(next).runnable, turn)) + turn) % kLanes;
      const int warps_per_block = static_cast<int>(warps_.size()) / blocks();
      return &thread(next / warps_per_block * block_threads_ + next % warps_per_block * kLanes + lane);
    }
    if (ended_ == static_cast<int>(threads_.size())) return nullptr;
    if (work_.empty()) ReportDeadlock();
    DoSomeWork();
  }
}

void Machine::Switch() {
  SimThread* const next = Next();
  SimThread* const last = current_;
  if (next == last) return;
  current_ = next;
  SwitchFiber(last->fiber, next == nullptr ? host_ : next->fiber);
}

void Machine::MayYield() {
  if (!in_turn() && Random() % 16 == 0) Switch();
}

void Machine::Wait(std::function<std::string()> waits_for) {
  SimThread& thread = self();
  thread.waits_for = std::move(waits_for);
  thread.state = SimThread::State::kWaits;
  warp(thread.warp).runnable &= ~(1u << thread.lane);
  Switch();
}

void Machine::Wake(int id) {
  SimThread& woken = thread(id);
  if (woken.state != SimThread::State::kWaits) return;
  woken.state = SimThread::State::kRuns;
  warp(woken.warp).runnable |= 1u << woken.lane;
}

void Machine::Release(SimThread& thread, Gathering& past) {
  past.Add(thread.past);
  past.AddAgent(thread.id, thread.clock, thread.fenced);
  APTM_CHECK(thread.clock < kClockMax, "a thread's clock is at its end");
  ++thread.clock;
}

Past Machine::PastOf(int agent, std::uint32_t agent_clock) const {
  auto clocks = std::make_shared<Clocks>(agents());
  clocks->seen[static_cast<std::size_t>(agent)] = agent_clock;
  return clocks;
}

bool Machine::HappensBefore(Epoch epoch, const SimThread& thread) const {
  const int agent = AgentOf(epoch);
  return agent == thread.id || thread.past->seen[static_cast<std::size_t>(agent)] >= ClockOf(epoch);
}

bool Machine::FencedBefore(Epoch epoch, const SimThread& thread) const {
  const int agent = AgentOf(epoch);
  const auto at = static_cast<std::size_t>(agent);
  if (at >= threads_.size()) return thread.past->seen[at] >= ClockOf(epoch);
  return (agent == thread.id ? thread.fenced : thread.past->fenced[at]) >= ClockOf(epoch);
}

std::string Machine::NameOf(const SimThread& thread) const {
  const Index& block = thread.place.block;
  return absl::StrCat("thread ", thread.id % block_threads_, " (warp ", thread.id % block_threads_ / kLanes, " lane ",
                      thread.lane, ") of block ", block.x, ",", block.y, ",", block.z);
}

std::string Machine::NameOf(Epoch epoch) const {
  const int agent = AgentOf(epoch), threads = static_cast<int>(threads_.size());
  if (agent < threads) return NameOf(threads_[static_cast<std::size_t>(agent)]);
  if (agent < threads + kBulkAgents) return "a bulk copy";
  return absl::StrCat("the wgmma of warpgroup ", agent - threads - kBulkAgents);
}

void Machine::Report(Fault fault, const void* at, const std::string& text) {
  const std::string who = in_kernel() ? absl::StrCat(NameOf(self()), ": ") : "";
  if (!findings.Add({fault, who + text, at}) && in_kernel()) Leave();
}

void Machine::Stop(Fault fault, const void* at, const std::string& text) {
  Report(fault, at, text);
  Leave();
}

void Machine::ReportDeadlock() {
  std::map<std::string, std::vector<int>> waiting;
  for (const SimThread& thread : threads_) {
    if (thread.state == SimThread::State::kWaits) waiting[thread.waits_for()].push_back(thread.id);
  }
  std::string text = "nobody can go on:";
  for (const auto& [what, ids] : waiting) absl::StrAppend(&text, "\n  threads ", Ranges(ids), " wait for ", what);
  findings.Add({Fault::kDeadlock, text, nullptr});
  Leave();
}

// Abandons the launch and everything after it. What the fibers have on their stacks stays there.
void Machine::Leave() {
  stopped_ = true;
  current_ = nullptr;
  Fiber left;
  SwitchFiber(left, host_);
  APTM_CHECK(false, "a launch that was left ran on");
}

const ThreadPlace& Place() { return Machine::Get().self().place; }

void Run(const LaunchShape& shape, const std::function<void()>& thread_body) {
  Machine::Get().Launch(shape, thread_body);
}

std::vector<Schedule> Schedules(int seeds) {
  std::vector<Schedule> schedules = {{Order::kInTurn, 1}};
  for (int seed = 1; seed <= seeds; ++seed) {
    schedules.push_back({Order::kRandom, static_cast<std::uint64_t>(seed)});
    schedules.push_back({Order::kLate, static_cast<std::uint64_t>(seed)});
  }
  return schedules;
}

std::vector<Finding> Emulate(const Schedule& schedule, const std::function<void()>& launches) {
  return Machine::Get().Emulate(schedule, launches);
}

}  // namespace angel_ptm::emulated
