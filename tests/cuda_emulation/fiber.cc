#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "angel_ptm/base/check.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::size_t kStackBytes = 128 << 10, kGuardBytes = 4096;
constexpr int kSavedRegisters = 6;

}  // namespace

// Saves the registers that a function preserves for its caller (System V ABI for x86-64) on the old stack and restores
// those on the new one. It returns into the other fiber's call.
extern "C" void angel_ptm_switch_stack(void** old_stack, void* new_stack);
asm(R"(
.text
.globl angel_ptm_switch_stack
.type angel_ptm_switch_stack, @function
angel_ptm_switch_stack:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
.size angel_ptm_switch_stack, .-angel_ptm_switch_stack
)");

FiberStacks::FiberStacks() {
  void* memory = mmap(nullptr, kStackBytes * kFibersMax, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  APTM_CHECK(memory != MAP_FAILED, "no address space for the emulator's stacks");
  memory_ = static_cast<char*>(memory);
  for (int i = 0; i < kFibersMax; ++i) mprotect(memory_ + i * kStackBytes, kGuardBytes, PROT_NONE);
}

Fiber FiberStacks::Start(int slot, void (*entry)()) {
  auto* top = reinterpret_cast<std::uintptr_t*>(memory_ + (slot + 1) * kStackBytes - 64);
  *--top = 0;  // the return address of `entry`: keeps the stack aligned as after a call
  *--top = reinterpret_cast<std::uintptr_t>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
  return {top};
}

void SwitchFiber(Fiber& from, const Fiber& to) { angel_ptm_switch_stack(&from.stack_pointer, to.stack_pointer); }

}  // namespace angel_ptm::emulated
