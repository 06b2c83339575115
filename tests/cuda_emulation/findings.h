// What the emulator finds wrong in a kernel.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_FINDINGS_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_FINDINGS_H_

#include <array>
#include <string>
#include <vector>

namespace angel_ptm::emulated {

enum class Fault {
  kRace,           // two unordered accesses, at least one a write
  kCrossBlock,     // blocks of one launch that depend on each other
  kOutOfBounds,    // an access outside of an array
  kUninitialised,  // a read before the first write
  kAlignment,      // an address that the instruction does not take
  kBarrier,        // misuse of __syncthreads or a named barrier
  kWarp,           // lanes that should act together do not
  kDeadlock,       // no thread can continue
  kAsyncCopy,      // a cp.async that is never waited for
  kMbarrier,       // misuse of an mbarrier
  kProxy,          // a missing fence between ordinary and asynchronous accesses
  kTensorCopy,     // misuse of TMA
  kWgmma,          // misuse of wgmma
  kRegisters,      // misuse of setmaxnreg
  kCluster,        // misuse of another block's shared memory
  kLaunch,         // a launch the hardware would refuse
};
inline constexpr int kFaults = static_cast<int>(Fault::kLaunch) + 1;
const char* Name(Fault fault);

struct Finding {
  Fault fault;
  std::string text;  // who and what
  const void* at;    // an address in the kernel's code, or null
  // With file and line.
  std::string Describe() const;
};

// The findings of a launch: only the first few of each fault, and each place once.
class Findings {
 public:
  // Returns false when so much has been reported that the launch should end.
  bool Add(Finding finding);
  void Clear() { *this = Findings(); }
  const std::vector<Finding>& all() const { return all_; }

 private:
  std::vector<Finding> all_;
  std::array<int, kFaults> count_ = {};
  int total_ = 0;
};

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_FINDINGS_H_
