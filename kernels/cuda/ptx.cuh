// The one place with PTX. Each helper is an instruction, or its emulation with the same operands (emulated.h). Except
// for arithmetic in registers every asm is volatile and clobbers memory: what it orders, the compiler may not reorder.
//
// Instructions by the PTX ISA, version 9.0. Those of sm_80 are for every GPU from there on.
#ifndef ANGEL_PTM_KERNELS_CUDA_PTX_CUH_
#define ANGEL_PTM_KERNELS_CUDA_PTX_CUH_

#include <cstdint>
#include <cstring>

#include "kernels/cuda/language.cuh"

namespace angel_ptm::cuda::ptx {

template <typename To, typename From>
APTM_DEVICE To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

APTM_DEVICE std::uint32_t SharedAddress(const void* pointer) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  return emulated::SharedAddress(pointer);
#else
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
#endif
}

// cp.async of 16 bytes; zeros, and nothing is read, unless `reads`.
APTM_DEVICE void CopyAsync16(std::uint32_t to, const void* from, bool reads) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::CopyAsync(to, from, 16, reads ? 16 : 0);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(reads ? 16 : 0)
               : "memory");
#endif
}

APTM_DEVICE void CopyAsyncCommit() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::CopyAsyncCommit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until at most kGroupsLeft of this thread's newest groups are under way.
template <int kGroupsLeft>
APTM_DEVICE void CopyAsyncWait() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::CopyAsyncWait(kGroupsLeft);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// Four 8 x 8 matrices of 16-bit elements; lane 8 i + r gives the address of row r of matrix i, which becomes r[i].
APTM_DEVICE void LoadMatrix4(std::uint32_t (&r)[4], std::uint32_t row) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::LoadMatrix(r, 4, false, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
#endif
}

APTM_DEVICE void LoadMatrix4Transposed(std::uint32_t (&r)[4], std::uint32_t row) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::LoadMatrix(r, 4, true, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
#endif
}

// d[16,8] += a[16,16] b[16,8], bf16 into fp32.
APTM_DEVICE void MultiplyBf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::MultiplyM16N8K16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Of some of a block's warps: named barrier `id`, 1 to 15, for `threads`.
APTM_DEVICE void BarrierSync(int id, int threads) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::NamedBarrier(id, threads, true);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

APTM_DEVICE void BarrierArrive(int id, int threads) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::NamedBarrier(id, threads, false);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace angel_ptm::cuda::ptx

#endif  // ANGEL_PTM_KERNELS_CUDA_PTX_CUH_
