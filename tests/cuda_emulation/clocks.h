// Which events happen before which: vector clocks (Mattern 1989; Flanagan & Freund 2009, FastTrack). An agent is a CUDA
// thread, or something that works concurrently with the threads: a bulk copy, the matrix unit of a warpgroup. An
// agent's clock advances whenever it lets others know of its past.
//
// There are two orders. `seen` is that of ordinary accesses. `fenced` is that of the asynchronous proxy (TMA, wgmma):
// of a thread's writes it includes those after which the thread itself has executed a fence.proxy.async.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_CLOCKS_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_CLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace angel_ptm::emulated {

// An agent and its clock at one moment. Never zero, so zero means "never".
using Epoch = std::uint32_t;
inline constexpr int kClockBits = 21;
inline constexpr std::uint32_t kClockMax = (1u << kClockBits) - 1;
inline constexpr int kAgentsMax = 1 << (32 - kClockBits);
inline Epoch MakeEpoch(int agent, std::uint32_t clock) { return static_cast<Epoch>(agent) << kClockBits | clock; }
inline int AgentOf(Epoch epoch) { return static_cast<int>(epoch >> kClockBits); }
inline std::uint32_t ClockOf(Epoch epoch) { return epoch & kClockMax; }

struct Clocks {
  std::vector<std::uint32_t> seen, fenced;  // by agent
  explicit Clocks(int agents) : seen(static_cast<std::size_t>(agents)), fenced(static_cast<std::size_t>(agents)) {}
  void Join(const Clocks& other);
};
// Shared by all threads with the same knowledge.
using Past = std::shared_ptr<const Clocks>;

// The joined pasts of the agents that arrive at a synchronisation point.
class Gathering {
 public:
  void Add(const Past& past);
  void AddAgent(int agent, std::uint32_t clock, std::uint32_t fenced);
  // Returns what an agent that leaves the point knows; the gathering is empty afterwards.
  Past Take();
  bool empty() const { return joined_ == nullptr; }

 private:
  std::unique_ptr<Clocks> joined_;
  Past last_;  // joining the same past again changes nothing
};

Past Joined(const Past& a, const Past& b);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_CLOCKS_H_
