// Checks of shapes and types that the host backend's ops share.
#ifndef ANGEL_PTM_KERNELS_CPU_CAN_RUN_H_
#define ANGEL_PTM_KERNELS_CPU_CAN_RUN_H_

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/kernels.h"
#include "kernels/operand.h"

namespace angel_ptm {

// Parts of Kernel::workspace_bytes.
inline int64_t FloatBytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(float)); }

template <typename Args>
int64_t NoWorkspace(const Args&, const BackendOptions&) {
  return 0;
}

// Parts of Kernel::can_run: checks that operands are all fp32, that extents fit BLAS and 32-bit counters, and that
// attention supports the heads.
inline absl::Status Fp32Only(const char* op, std::initializer_list<DType> dtypes) {
  for (const DType dtype : dtypes) {
    if (dtype == DType::kFloat32) continue;
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: ", op, " takes F32 operands, got ", Name(dtype)));
  }
  return absl::OkStatus();
}

// An operand with the name of its field. An optional operand is absent if it has no address and the type fp32, which an
// absent operand has by default: before addresses are bound, nothing else tells.
struct NamedOperand {
  const char* name;
  DType dtype;
  bool absent = false;

  NamedOperand(const char* field, const ConstOperand& o) : name(field), dtype(o.dtype) {}
  NamedOperand(const char* field, const Operand& o) : name(field), dtype(o.dtype) {}
  static NamedOperand Optional(const char* field, const ConstOperand& o) {
    NamedOperand named(field, o);
    named.absent = !o && o.dtype == DType::kFloat32;
    return named;
  }
  static NamedOperand Optional(const char* field, const Operand& o) {
    return Optional(field, ConstOperand{o.data, o.dtype});
  }
};

// The operand types that a kernel with an fp32 and a bf16 variant accepts.
struct OperandTypes {
  std::vector<NamedOperand> same;          // all fp32 or all bf16; the first is never absent
  std::vector<NamedOperand> same_or_fp32;  // each of the type of `same`, or fp32
  std::vector<NamedOperand> fp32;
};
absl::Status Fp32OrBf16(const char* op, const OperandTypes& types);

inline absl::Status BelowInt32(const char* op, std::initializer_list<int64_t> extents) {
  for (const int64_t extent : extents) {
    if (extent > 0 && extent <= std::numeric_limits<int32_t>::max()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: ", op, " takes extents from 1 to 2^31 - 1, got ", extent));
  }
  return absl::OkStatus();
}

inline absl::Status HeadsSupported(const char* op, int64_t q_heads, int64_t kv_heads, int64_t d,
                                   int64_t d_max = kHeadDimMax) {
  if (d < 2 || d > d_max || d % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu backend: ", op, " takes an even head dimension from 2 to ", d_max, ", got ", d));
  }
  if (kv_heads < 1 || q_heads < 1 || q_heads % kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("cpu backend: ", op,
                                                   " takes query heads that are a multiple of key-value heads, got ",
                                                   q_heads, " and ", kv_heads));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_CAN_RUN_H_
