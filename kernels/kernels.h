// The interface to computation: each op has a struct of arguments (ops/<op>.h), and each backend a table that says how
// it runs each op.
//
// Contract of every kernel:
// * Operands are dense, row-major, 64-byte aligned and do not overlap unless the struct says so. The caller owns them.
//   Columns of a wider matrix (operands with a stride: attention's v and dv) are aligned to their elements only.
// * Operands are fp32 unless the struct calls them elements. The elements of one call are all fp32 or all bf16. bf16 is
//   widened when read, all arithmetic is fp32, and a value that is written or added to is rounded once, to nearest
//   even. The gradient of a weight may be fp32 while the elements are bf16.
// * To `can_run`, an operand that may be null is absent if it has no address and its type is fp32.
// * A kernel allocates nothing, keeps no state and never fails: `can_run` checked shapes and dtypes when the plan was
//   made. Scratch memory comes from KernelContext::workspace; `workspace_bytes` says how much is needed.
// * The result depends only on operand values, shapes and KernelContext::threads: never on addresses or timing.
// * Gradient operands marked (+)= are overwritten, or added to if the matching `accumulate` flag is set.
// * Values that change from step to step are read through pointers, so one bound argument struct serves all steps.
//
// Letters: T tokens (B rows of S), H hidden, V vocabulary, E experts, K experts per token, F expert or MLP width, Q/G
// query and key-value heads, D head dimension, R rows of the padded expert buffer = blocks * block_rows.
#ifndef ANGEL_PTM_KERNELS_KERNELS_H_
#define ANGEL_PTM_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

#define APTM_OP(Kind, name) struct Kind##Args;
#include "kernels/ops.def"

// Where a kernel runs and what it may use besides its operands.
struct KernelContext {
  int threads = 1;                 // part of the numerics: fixed for a run
  std::byte* workspace = nullptr;  // 64-byte aligned, at least Kernel::workspace_bytes
  int64_t workspace_bytes = 0;
  void* stream = nullptr;  // a cudaStream_t for the CUDA backend
};

// The choices of a run that the size of scratch memory depends on.
struct BackendOptions {
  int threads = 1;
};

// How a backend runs one op. No member is null. `can_run` and `workspace_bytes` are pure functions of shapes and types
// and do not look at addresses.
template <typename Args>
struct Kernel {
  // OK, or kInvalidArgument with one sentence that names the op, what it got and what the backend takes.
  absl::Status (*can_run)(const Args&) = nullptr;
  // Bytes of KernelContext::workspace.
  int64_t (*workspace_bytes)(const Args&, const BackendOptions&) = nullptr;
  void (*run)(const Args&, const KernelContext&) = nullptr;

  void operator()(const Args& args, const KernelContext& context) const { run(args, context); }
};

// One backend.
struct KernelTable {
  const char* name;
  int64_t alignment_bytes;  // where the workspace and every operand without a stride start
#define APTM_OP(Kind, name) Kernel<Kind##Args> name;
#include "kernels/ops.def"
};

// The entry of the table that takes these arguments.
template <typename Args>
const Kernel<Args>& KernelOf(const KernelTable& table);
#define APTM_OP(Kind, name)                                                         \
  template <>                                                                       \
  inline const Kernel<Kind##Args>& KernelOf<Kind##Args>(const KernelTable& table) { \
    return table.name;                                                              \
  }
#include "kernels/ops.def"

// The host backend (kernels/cpu) at the highest level that this machine runs (cpu/cpu_isa.h). Uses OpenMP teams of
// KernelContext::threads, and OpenBLAS for matrix products.
const KernelTable& CpuKernels();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_KERNELS_H_
