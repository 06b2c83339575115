#include "kernels/cpu/cpu_isa.h"

#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace angel_ptm {

// Each is defined in the object of its level (cpu_kernels.cc).
const KernelTable& angel_ptm_cpu_kernels_portable();
const KernelTable& angel_ptm_cpu_kernels_x86_64_v3();
const KernelTable& angel_ptm_cpu_kernels_avx512();
const KernelTable& angel_ptm_cpu_kernels_avx512_bf16();
const KernelTable& angel_ptm_cpu_kernels_amx();

namespace {

constexpr uint32_t Bits(std::initializer_list<int> bits) {
  uint32_t word = 0;
  for (const int bit : bits) word |= 1u << bit;
  return word;
}

// Intel, Software Developer's Manual, volume 2, CPUID; the levels of the x86-64 psABI.
[[maybe_unused]] constexpr X86Features NeedsOfV3() {
  return {// SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX, F16C
          .leaf1_ecx = Bits({0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29}),
          .leaf7_ebx = Bits({3, 5, 8}),  // BMI1, AVX2, BMI2
          .extended_ecx = Bits({0, 5}),  // LAHF, LZCNT
          .xcr0 = Bits({1, 2})};         // XMM, YMM
}
[[maybe_unused]] constexpr X86Features NeedsOfAvx512() {
  X86Features needs = NeedsOfV3();
  needs.leaf7_ebx |= Bits({16, 17, 28, 30, 31});  // F, DQ, CD, BW, VL
  needs.xcr0 |= Bits({5, 6, 7});                  // mask registers, ZMM
  return needs;
}
[[maybe_unused]] constexpr X86Features NeedsOfAvx512Bf16() {
  X86Features needs = NeedsOfAvx512();
  needs.leaf7_1_eax |= Bits({5});
  return needs;
}
[[maybe_unused]] constexpr X86Features NeedsOfAmx() {
  X86Features needs = NeedsOfAvx512Bf16();
  needs.leaf7_edx |= Bits({22, 24});  // BF16, TILE
  needs.xcr0 |= Bits({17, 18});       // the tiles' shapes, the tiles
  return needs;
}

constexpr CpuIsa kIsas[] = {
    {"portable", false, {}, &angel_ptm_cpu_kernels_portable},
#ifdef ANGEL_PTM_WITH_CPU_x86_64_v3
    {"x86-64-v3", false, NeedsOfV3(), &angel_ptm_cpu_kernels_x86_64_v3},
#endif
#ifdef ANGEL_PTM_WITH_CPU_avx512
    {"avx512", false, NeedsOfAvx512(), &angel_ptm_cpu_kernels_avx512},
#endif
#ifdef ANGEL_PTM_WITH_CPU_avx512_bf16
    {"avx512-bf16", true, NeedsOfAvx512Bf16(), &angel_ptm_cpu_kernels_avx512_bf16},
#endif
#ifdef ANGEL_PTM_WITH_CPU_amx
    {"amx", true, NeedsOfAmx(), &angel_ptm_cpu_kernels_amx},
#endif
};

// Linux gives the 8 KiB of tile registers only to processes that ask (Documentation/arch/x86/xstate.rst).
bool SystemGivesTiles() {
#if defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

X86Features ReadX86Features() {
  X86Features features;
#if defined(__x86_64__)
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) features.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    features.leaf7_ebx = ebx;
    features.leaf7_edx = edx;
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) features.leaf7_1_eax = eax;
  }
  if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx)) features.extended_ecx = ecx;
  if (features.leaf1_ecx & Bits({27})) {  // the system lets programs read XCR0
    uint32_t low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features.xcr0 = uint64_t{high} << 32 | low;
  }
#endif
  return features;
}

bool HasFeatures(const X86Features& has, const X86Features& needs) {
  const auto all = [](uint64_t got, uint64_t wanted) { return (got & wanted) == wanted; };
  return all(has.leaf1_ecx, needs.leaf1_ecx) && all(has.leaf7_ebx, needs.leaf7_ebx) &&
         all(has.leaf7_edx, needs.leaf7_edx) && all(has.leaf7_1_eax, needs.leaf7_1_eax) &&
         all(has.extended_ecx, needs.extended_ecx) && all(has.xcr0, needs.xcr0);
}

std::span<const CpuIsa> CpuIsas() { return kIsas; }

std::vector<const CpuIsa*> RunnableCpuIsas() {
  const X86Features has = ReadX86Features();
  std::vector<const CpuIsa*> runnable;
  for (const CpuIsa& isa : kIsas) {
    if (!HasFeatures(has, isa.needs)) break;
    if ((isa.needs.xcr0 & Bits({18})) != 0 && !SystemGivesTiles()) break;
    runnable.push_back(&isa);
  }
  return runnable;
}

}  // namespace angel_ptm
