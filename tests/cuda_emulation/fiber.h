// One fiber per CUDA thread: thousands of stacks in one thread of the operating system, switched in tens of
// nanoseconds.
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_FIBER_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_FIBER_H_

#include <cstddef>

namespace angel_ptm::emulated {

inline constexpr int kFibersMax = 2048;

// Where a suspended fiber continues.
struct Fiber {
  void* stack_pointer = nullptr;
};

// The stacks, each with an inaccessible guard page before it.
class FiberStacks {
 public:
  FiberStacks();
  // Makes a fiber on stack `slot` that starts in `entry`, which must never return.
  Fiber Start(int slot, void (*entry)());

 private:
  char* memory_;
};

// Suspends the running fiber, storing in `from` where it continues, and continues with `to`.
void SwitchFiber(Fiber& from, const Fiber& to);

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_FIBER_H_
