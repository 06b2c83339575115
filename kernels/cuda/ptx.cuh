// The only file with PTX. Each helper is one instruction, or its emulation with the same operands (emulated.h). Except
// for arithmetic in registers every asm is volatile and clobbers memory: the compiler may not reorder what it orders.
//
// Instructions are those of the PTX ISA, version 9.0. The sm_80 instructions exist on every GPU from sm_80 on.
#ifndef ANGEL_PTM_KERNELS_CUDA_PTX_CUH_
#define ANGEL_PTM_KERNELS_CUDA_PTX_CUH_

#include <cstdint>
#include <cstring>

#include "kernels/cuda/language.cuh"

#ifndef ANGEL_PTM_CUDA_EMULATED
#include <cuda.h>
#endif

namespace angel_ptm::cuda {
#ifdef ANGEL_PTM_CUDA_EMULATED
using TensorMap = emulated::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif
}  // namespace angel_ptm::cuda

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

// cp.async of 16 bytes. If `reads` is false it writes zeros and reads nothing.
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

// Waits until at most kGroupsLeft of this thread's newest groups are in flight.
template <int kGroupsLeft>
APTM_DEVICE void CopyAsyncWait() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::CopyAsyncWait(kGroupsLeft);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// Four 8 x 8 matrices of 16-bit elements. Lane 8 i + r gives the address of row r of matrix i; matrix i goes to r[i].
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

// Two bf16 numbers, rounded to nearest, ties to even; NaN becomes 0x7fff.
APTM_DEVICE std::uint32_t PackBf16(float low, float high) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const auto rounded = [](float x) {
    const auto bits = BitCast<std::uint32_t>(x);
    return x != x ? 0x7fffu : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
#else
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}

// 2^x within two units in the last place; zero below 2^-126.
APTM_DEVICE float Exp2(float x) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  return x < -126.0f ? 0.0f : std::exp2(x);
#else
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#endif
}

// A barrier for some of a block's warps: named barrier `id`, 1 to 15, for `threads` threads.
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

// ---- sm_90a ----

// A barrier in shared memory, 8 bytes, that counts arrivals and bytes in phases.
APTM_DEVICE void MbarrierInit(std::uint32_t barrier, std::uint32_t arrivals) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::MbarrierInit(barrier, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#endif
}

// Called after the inits by the thread that made them, before copies use the barriers.
APTM_DEVICE void FenceMbarrierInit() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::FenceMbarrierInit();
#else
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// Called between a thread's own writes to shared memory and TMA or wgmma that reads them.
APTM_DEVICE void FenceProxyAsync() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::FenceProxyAsync();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

APTM_DEVICE void MbarrierArrive(std::uint32_t barrier) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::MbarrierArrive(barrier, 0);
#else
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(barrier) : "memory");
#endif
}

APTM_DEVICE void MbarrierArriveExpect(std::uint32_t barrier, std::uint32_t bytes) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::MbarrierArrive(barrier, bytes);
#else
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(barrier),
               "r"(bytes)
               : "memory");
#endif
}

// Waits until the current phase has another parity than `parity`.
APTM_DEVICE void MbarrierWait(std::uint32_t barrier, std::uint32_t parity) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::MbarrierWait(barrier, parity);
#else
  asm volatile(
      "{\n.reg .pred complete;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n@!complete bra "
      "wait;\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

// Copies a box of a matrix, starting at column x and row y, to shared memory; the barrier counts its bytes.
APTM_DEVICE void TensorLoad2d(std::uint32_t to, const TensorMap* map, std::uint32_t barrier, int x, int y) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const int coordinates[] = {x, y};
  emulated::TensorLoad(to, map, barrier, 2, coordinates);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
#endif
}

APTM_DEVICE void TensorLoad3d(std::uint32_t to, const TensorMap* map, std::uint32_t barrier, int x, int y, int z) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const int coordinates[] = {x, y, z};
  emulated::TensorLoad(to, map, barrier, 3, coordinates);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier)
      : "memory");
#endif
}

APTM_DEVICE void TensorLoad4d(std::uint32_t to, const TensorMap* map, std::uint32_t barrier, int x, int y, int z,
                              int w) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const int coordinates[] = {x, y, z, w};
  emulated::TensorLoad(to, map, barrier, 4, coordinates);
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier)
      : "memory");
#endif
}

APTM_DEVICE void TensorStore2d(const TensorMap* map, std::uint32_t from, int x, int y) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const int coordinates[] = {x, y};
  emulated::TensorStore(map, from, 2, coordinates);
#else
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x),
               "r"(y), "r"(from)
               : "memory");
#endif
}

APTM_DEVICE void TensorStore4d(const TensorMap* map, std::uint32_t from, int x, int y, int z, int w) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  const int coordinates[] = {x, y, z, w};
  emulated::TensorStore(map, from, 4, coordinates);
#else
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
               "r"(x), "r"(y), "r"(z), "r"(w), "r"(from)
               : "memory");
#endif
}

APTM_DEVICE void BulkCommit() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::BulkCommit();
#else
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

// Waits until all but kGroupsLeft of this thread's groups of stores have read their shared memory.
template <int kGroupsLeft>
APTM_DEVICE void BulkWaitRead() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::BulkWait(kGroupsLeft);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// Called between a warpgroup's own use of registers and a wgmma that adds to them or reads them.
APTM_DEVICE void WgmmaFence() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::WgmmaFence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

APTM_DEVICE void WgmmaCommit() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::WgmmaCommit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

template <int kGroupsLeft>
APTM_DEVICE void WgmmaWait() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::WgmmaWait(kGroupsLeft);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// Describes where a bf16 operand of wgmma lies, with the 128-byte swizzle. With rows of k (64 of them are 128 bytes),
// `stride` is the distance of 8 rows and `leading` is not used. Transposed, with rows of m or n, `stride` is the
// distance of 8 k and `leading` that of 64 m or n.
APTM_DEVICE std::uint64_t WgmmaDescriptor(std::uint32_t address, std::uint32_t leading, std::uint32_t stride) {
  constexpr std::uint64_t kSwizzle128 = 1;
  return (address & 0x3ffff) >> 4 | static_cast<std::uint64_t>(leading >> 4) << 16 |
         static_cast<std::uint64_t>(stride >> 4) << 32 | kSwizzle128 << 62;
}

#define APTM_ACCUMULATORS8(d, i)                                                                              \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])

// d[64,N] = a[64,16] b[16,N], or += it, by a warpgroup, with both operands in shared memory.
template <int kTransposedA, int kTransposedB>
APTM_DEVICE void WgmmaM64N64(float (&d)[32], std::uint64_t a, std::uint64_t b, bool accumulates) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::Wgmma(64, d, nullptr, a, b, accumulates, kTransposedA != 0, kTransposedB != 0);
#else
  asm volatile(
      "{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, accumulates, 1, 1, %35, %36;\n}"
      : APTM_ACCUMULATORS8(d, 0), APTM_ACCUMULATORS8(d, 8), APTM_ACCUMULATORS8(d, 16), APTM_ACCUMULATORS8(d, 24)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulates)), "n"(kTransposedA), "n"(kTransposedB)
      : "memory");
#endif
}

template <int kTransposedA, int kTransposedB>
APTM_DEVICE void WgmmaM64N128(float (&d)[64], std::uint64_t a, std::uint64_t b, bool accumulates) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::Wgmma(128, d, nullptr, a, b, accumulates, kTransposedA != 0, kTransposedB != 0);
#else
  asm volatile(
      "{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, accumulates, 1, 1, %67, %68;\n}"
      : APTM_ACCUMULATORS8(d, 0), APTM_ACCUMULATORS8(d, 8), APTM_ACCUMULATORS8(d, 16), APTM_ACCUMULATORS8(d, 24),
        APTM_ACCUMULATORS8(d, 32), APTM_ACCUMULATORS8(d, 40), APTM_ACCUMULATORS8(d, 48), APTM_ACCUMULATORS8(d, 56)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulates)), "n"(kTransposedA), "n"(kTransposedB)
      : "memory");
#endif
}

// With a in registers, in the layout of MultiplyBf16, 16 rows per warp.
template <int kTransposedB>
APTM_DEVICE void WgmmaM64N64(float (&d)[32], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulates) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::Wgmma(64, d, a, 0, b, accumulates, false, kTransposedB != 0);
#else
  asm volatile(
      "{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, accumulates, 1, 1, %38;\n}"
      : APTM_ACCUMULATORS8(d, 0), APTM_ACCUMULATORS8(d, 8), APTM_ACCUMULATORS8(d, 16), APTM_ACCUMULATORS8(d, 24)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulates)), "n"(kTransposedB)
      : "memory");
#endif
}

template <int kTransposedB>
APTM_DEVICE void WgmmaM64N128(float (&d)[64], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulates) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::Wgmma(128, d, a, 0, b, accumulates, false, kTransposedB != 0);
#else
  asm volatile(
      "{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, accumulates, 1, 1, %70;\n}"
      : APTM_ACCUMULATORS8(d, 0), APTM_ACCUMULATORS8(d, 8), APTM_ACCUMULATORS8(d, 16), APTM_ACCUMULATORS8(d, 24),
        APTM_ACCUMULATORS8(d, 32), APTM_ACCUMULATORS8(d, 40), APTM_ACCUMULATORS8(d, 48), APTM_ACCUMULATORS8(d, 56)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulates)), "n"(kTransposedB)
      : "memory");
#endif
}

#undef APTM_ACCUMULATORS8

// Called after a wait: keeps the compiler from moving a use of these sums to before the wait.
template <int kCount>
APTM_DEVICE void WgmmaSettle(float (&d)[kCount]) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  static_cast<void>(d);
#else
  APTM_UNROLL for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

// Changes a warpgroup's share of the registers: gives some back, or takes more and waits for them.
template <int kRegisters>
APTM_DEVICE void LowerRegisters() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::SetMaxRegisters(kRegisters, false);
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters) : "memory");
#endif
}

template <int kRegisters>
APTM_DEVICE void RaiseRegisters() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::SetMaxRegisters(kRegisters, true);
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters) : "memory");
#endif
}

// Clusters: this block's rank, a barrier for all threads of the cluster, and the address of a shared location in
// another block.
APTM_DEVICE int ClusterRank() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  return emulated::ClusterRank();
#else
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#endif
}

APTM_DEVICE void ClusterSync() {
#ifdef ANGEL_PTM_CUDA_EMULATED
  emulated::ClusterSync();
#else
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}

APTM_DEVICE std::uint32_t MapShared(std::uint32_t address, int rank) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  return emulated::MapShared(address, rank);
#else
  std::uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
#endif
}

// A word of shared memory of any block of the cluster.
APTM_DEVICE float LoadShared(std::uint32_t address) {
#ifdef ANGEL_PTM_CUDA_EMULATED
  return emulated::LoadShared(address);
#else
  float x;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
  return x;
#endif
}

}  // namespace angel_ptm::cuda::ptx

#endif  // ANGEL_PTM_KERNELS_CUDA_PTX_CUH_
